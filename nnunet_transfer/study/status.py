"""The state of a study from its files and processes, which is correct while it runs and after a crash."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_transfer.locks import is_locked
from nnunet_transfer.study import state
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.engine import RUN_LOCK
from nnunet_transfer.study.epochs import latest_epoch
from nnunet_transfer.study.jobs import KINDS, Job

#: states of a job, in the order of the table
DONE, RUNNING, INTERRUPTED, FAILED, WAITING = STATES = ("done", "running", "interrupted", "failed", "waiting")


@dataclass(frozen=True)
class JobState:
    """The state of one step of a study.

    Attributes
    ----------
    job
        The step.
    state
        `done`, `running`, `interrupted`, `failed` or `waiting`.
    detail
        How long a running step has been running and its progress, or why a step failed.
    """

    job: Job
    state: str
    detail: str = ""


def job_states(study: Study, jobs: Mapping[str, Job]) -> list[JobState]:
    """Return the state of every job."""
    folders = {kind: _names(study.folder / state.STEPS / kind) for kind in KINDS}
    return [_state(study, job, folders[job.kind]) for job in jobs.values()]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _state(study: Study, job: Job, names: set[str]) -> JobState:
    if f"{job.key}.{state.DONE}" in names:
        return JobState(job, DONE)
    if f"{job.key}.{state.RUNNING}" in names:
        if state.is_alive(study.folder, job):
            return JobState(job, RUNNING, _running_for(study, job))
        # it may have finished since the names were listed
        if state.is_done(study.folder, job):
            return JobState(job, DONE)
        if state.mark(study.folder, job, state.RUNNING).is_file():
            return JobState(job, INTERRUPTED, "its process is gone; run the study again")
        names = _names(state.mark(study.folder, job, state.FAILED).parent)
    if f"{job.key}.{state.FAILED}" in names:
        error = (state.read_mark(study.folder, job, state.FAILED) or {}).get(
            "error", "for a reason that stands in its log"
        )
        return JobState(job, FAILED, f"{error} (see {state.last_log(study.folder, job)})")
    return JobState(job, WAITING)


def _running_for(study: Study, job: Job) -> str:
    sign = state.read_sign(study.folder, job)
    if sign is None:
        return "since an unknown time"
    minutes = max(0.0, time.time() - sign.started) / 60  # clocks of two machines may differ
    where = f"{sign.host}, SLURM job {sign.cluster_job}" if sign.cluster_job else sign.host
    return f"for {minutes:.0f} min on {where}{_epoch(study, job)}"


def _epoch(study: Study, job: Job) -> str:
    epoch = latest_epoch(study, job)
    if epoch is None:
        return ""
    left = "" if epoch.seconds_left is None else f", about {epoch.seconds_left / 3600:.1f} h left"
    return f", epoch {epoch.number} of {epoch.total}{left}"


def is_run(study: Study) -> bool:
    """Whether a run of the study is active, even if no step runs between two steps or in a cluster's queue."""
    return is_locked(study.folder / state.LOCKS / RUN_LOCK)


def watch(ask: Callable[[], list[JobState]], is_run: Callable[[], bool], seconds: float) -> None:
    """Print the state of a study repeatedly, until no step runs and no run is active.

    Parameters
    ----------
    is_run : whether a run is active
    """
    while True:
        goes_on = is_run()
        states = ask()
        text = status_table(states)
        # on a terminal, the next table replaces this one
        print(f"\x1b[2J\x1b[H{text}" if sys.stdout.isatty() else text, flush=True)
        if not goes_on and not any(found.state == RUNNING for found in states):
            return
        time.sleep(seconds)


def status_table(states: list[JobState]) -> str:
    """Return a table of counts by kind of step, and a line for each step that runs, was interrupted or failed."""
    counts = Counter((s.job.kind, s.state) for s in states)
    kinds = [kind for kind in KINDS if any((kind, name) in counts for name in STATES)]
    rows: list[tuple[str, ...]] = [("step", *STATES, "all")]
    for kind in kinds:
        numbers = [counts[kind, name] for name in STATES]
        rows.append((kind, *(str(n) if n else "-" for n in numbers), str(sum(numbers))))
    totals = [sum(counts[kind, name] for kind in kinds) for name in STATES]
    rows.append(("all", *(str(n) if n else "-" for n in totals), str(sum(totals))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    told = [s for name in (RUNNING, INTERRUPTED, FAILED) for s in states if s.state == name]
    return "\n".join([*lines, *(f"{s.state}: {s.job.name}: {s.detail}" for s in told)])
