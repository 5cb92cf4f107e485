"""Starting studies as users do, in processes of their own, and watching these."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import yaml

from nnunet_transfer.study import read_study, state, study_jobs

RUN = (sys.executable, "-m", "nnunet_transfer.cli", "study", "run")


def snakemake(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `study run` as a user does."""
    command = [*RUN, str(file), "--jobs", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; one that nobody has waited for does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


#: signals that end a run, and may be ignored from its start on: nohup does so, and scripts for background jobs
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start_and_wait_for(
    file: Path, kind: str, *options: str, ignored: Sequence[signal.Signals] = ()
) -> tuple[subprocess.Popen[bytes], state.Sign]:
    """Start `study run`; return it with the sign of a step of a kind that has started."""

    def dispositions() -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    study = read_study(file)
    jobs = [job for job in study_jobs(study).values() if job.kind == kind]
    command = [*RUN, str(file), "--jobs", "1", *options]
    with open(file.with_name("run.log"), "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=dispositions)
    while True:
        assert process.poll() is None, file.with_name("run.log").read_text()
        if sign := next(filter(None, (state.read_sign(study.folder, job) for job in jobs)), None):
            return process, sign
        time.sleep(0.02)


def changed(file: Path, change: Callable[[dict], None]) -> None:
    """Change a study file."""
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def most_at_a_time(file: Path) -> int:
    """Return how many steps of a finished study worked at a time."""
    study = read_study(file)
    marks = [state.read_mark(study.folder, job, state.DONE) for job in study_jobs(study).values()]
    spans = [(mark["started"], mark["started"] + mark["seconds"] - mark["spent"]) for mark in marks if mark]
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
