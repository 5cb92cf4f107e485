"""The state of each job on disk: done, running or failed. Every mark is written atomically.

The name of a mark contains the digest of the job, so marks of other descriptions of the same job are never confused with
it. A job that starts removes the marks of jobs whose output it overwrites, because they are done no more. Only one process
runs a job: it holds the job's lock, which the system releases when the process ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.locks import is_locked, locked
from nnunet_transfer.study.jobs import Job, rivals

STEPS, LOCKS, LOGS = "steps", "locks", "logs"
DONE, RUNNING, FAILED = "done", "running", "failed"
#: seconds between two heartbeats of a running step
HEARTBEAT = 20.0
#: a step on another machine without a heartbeat for longer counts as dead
SILENCE = 10 * HEARTBEAT


@dataclass(frozen=True)
class Sign:
    """The heartbeat file of a running step.

    Attributes
    ----------
    started : start time in seconds since 1970
    host, process, cluster_job : host name, process id and SLURM job id
    spent : duration in seconds of earlier runs of the same job that were killed
    """

    started: float
    host: str
    process: int
    cluster_job: str = ""
    spent: float = 0.0


def mark(folder: Path, job: Job, state: str) -> Path:
    """Return the path of the mark of a state."""
    return folder / STEPS / job.kind / f"{job.key}.{state}"


def last_log(folder: Path, job: Job) -> Path:
    """Return the log of the last run of a job."""
    return folder / LOGS / job.kind / f"{job.key}.log"


def is_done(folder: Path, job: Job) -> bool:
    """Whether the job has finished successfully."""
    return mark(folder, job, DONE).is_file()


def read_mark(folder: Path, job: Job, state: str) -> dict[str, Any] | None:
    """Return the content of a mark; None if it doesn't exist."""
    try:
        content = read_json(mark(folder, job, state))
    except (DataError, NotADirectoryError):
        return None
    return content if isinstance(content, dict) else None


def read_sign(folder: Path, job: Job) -> Sign | None:
    """Return the heartbeat of a running step; None if it is missing or damaged."""
    content = read_mark(folder, job, RUNNING) or {}
    try:
        return Sign(
            float(content["started"]),
            str(content["host"]),
            int(content["process"]),
            str(content.get("cluster_job", "")),
            float(content.get("spent", 0)),
        )
    except (KeyError, TypeError, ValueError):
        return None


@contextlib.contextmanager
def at_work(folder: Path, job: Job) -> Iterator[bool]:
    """Hold the job's lock and write heartbeats; on exit, note that the job is done, or why it failed.

    A step stopped by its user (Ctrl-C) leaves the marks of a killed step, because it didn't fail.

    Yields True if there is work left: another process may have finished the job while this one waited for the lock.
    """
    with locked(folder / LOCKS / f"{job.name}.lock"):
        if is_done(folder, job):
            yield False
            return
        _forget_overwritten(folder, job)
        running = mark(folder, job, RUNNING)
        cluster_job = os.environ.get("SLURM_JOB_ID", "")
        sign = Sign(time.time(), socket.gethostname(), os.getpid(), cluster_job, _spent_before(folder, job))
        write_json(running, asdict(sign))
        mark(folder, job, FAILED).unlink(missing_ok=True)
        stop = threading.Event()
        threading.Thread(target=_beat, args=(running, stop), daemon=True).start()
        try:
            yield True
        except KeyboardInterrupt:
            stop.set()
            raise
        except BaseException as error:
            stop.set()
            first = (str(error).splitlines() or [""])[0]
            # a full disk must not hide the step's own error
            with contextlib.suppress(OSError):
                write_json(mark(folder, job, FAILED), {**_ended(sign), "error": first or type(error).__name__})
            running.unlink(missing_ok=True)
            raise
        stop.set()
        write_json(mark(folder, job, DONE), {**_ended(sign), "job": job.name, "place": job.place})
        running.unlink(missing_ok=True)


def _forget_overwritten(folder: Path, job: Job) -> None:
    """Remove the marks of finished jobs that wrote where this job writes: after a change back, they have to run again."""
    for kind, name in rivals(job):
        for path in (folder / STEPS / kind).glob(f"*.{DONE}"):
            if path.name.startswith(f"{name}.") or _place(path) == job.place:
                path.unlink(missing_ok=True)


def _place(done: Path) -> str | None:
    """Return what a finished job wrote to, from its mark; None if the mark doesn't say."""
    try:
        content = read_json(done)
    except DataError:
        return None
    return content.get("place") if isinstance(content, dict) else None


def _ended(sign: Sign) -> dict[str, Any]:
    return {**asdict(sign), "seconds": sign.spent + max(0.0, time.time() - sign.started)}


def _spent_before(folder: Path, job: Job) -> float:
    """Return the duration of earlier runs of a job that this one resumes."""
    if sign := read_sign(folder, job):
        with contextlib.suppress(FileNotFoundError):
            return sign.spent + max(0.0, mark(folder, job, RUNNING).stat().st_mtime - sign.started)
    seconds = (read_mark(folder, job, FAILED) or {}).get("seconds", 0.0)
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _beat(running: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT):
        with contextlib.suppress(OSError):
            os.utime(running)


def is_alive(folder: Path, job: Job) -> bool:
    """Whether the process of a running mark still exists; works without write access to the folder."""
    if not mark(folder, job, RUNNING).is_file():
        return False
    sign = read_sign(folder, job)
    if sign is None or sign.host == socket.gethostname():
        # the lock is more reliable than the process id, which may have been reused
        return is_locked(folder / LOCKS / f"{job.name}.lock")
    try:
        return _silent_for(mark(folder, job, RUNNING)) < SILENCE
    except FileNotFoundError:
        return False


def _silent_for(path: Path) -> float:
    """Return the age of a file in seconds by the clock of its file system, because the clocks of machines may differ."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".clock-") as probe:
            now = os.fstat(probe.fileno()).st_mtime
    except OSError:
        now = time.time()
    return now - path.stat().st_mtime
