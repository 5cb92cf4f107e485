"""A plug-in of pytest that names the files and tests that cost most of the processor's time: `--costly N`."""

from __future__ import annotations

import contextlib
import resource
from collections import Counter
from collections.abc import Iterator
from multiprocessing import forkserver

import psutil
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costly", type=int, default=0, metavar="N", help="name the N files and tests that cost most")


STARTED = pytest.StashKey[float]()


def _processor_seconds() -> float:
    """Seconds of this process, its fork server and all that these waited for: beside other load, the clock says little."""
    used = [resource.getrusage(who)[:2] for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if server is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            used.append(psutil.Process(server).cpu_times()[:4])
    return sum(map(sum, used))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    item.stash[STARTED] = _processor_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        # travels from a worker with the report
        item.user_properties.append(("processor_seconds", _processor_seconds() - item.stash[STARTED]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    files, tests = Counter[str](), Counter[str]()
    for report in (r for reports in terminalreporter.stats.values() for r in reports):
        if getattr(report, "when", None) == "teardown":
            seconds = dict(report.user_properties)["processor_seconds"]
            files[report.nodeid.partition("::")[0]] += seconds
            tests[report.nodeid] += seconds
    for table in (files, tests):
        for name, seconds in table.most_common(config.getoption("costly")):
            terminalreporter.write_line(f"{seconds:8.1f} s of the processor {name}")
