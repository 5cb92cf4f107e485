"""What is known on disk about each job: done, at work, failed. Every mark is written atomically.

A mark's name holds the job's digest, so a mark made for another description of the same job is never taken for this
one's. Only one process works at a job: it holds the job's lock, which the system releases when it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.study.jobs import Job

STEPS, LOCKS, LOGS = "steps", "locks", "logs"
DONE, RUNNING, FAILED = "done", "running", "failed"
#: seconds between two signs of life of a running step
HEARTBEAT = 20.0
#: a running step on another machine that was silent for longer is dead
SILENCE = 10 * HEARTBEAT


@dataclass(frozen=True)
class Sign:
    """The sign of a step at work: since when (seconds since 1970), where, as which process, with which job of SLURM."""

    started: float
    host: str
    process: int
    cluster_job: str = ""


def mark(folder: Path, job: Job, state: str) -> Path:
    """Return where the mark of a state lies."""
    return folder / STEPS / job.kind / f"{job.key}.{state}"


def last_log(folder: Path, job: Job) -> Path:
    """Return where the last run of a job wrote to."""
    return folder / LOGS / job.kind / f"{job.key}.log"


def is_done(folder: Path, job: Job) -> bool:
    """Whether the job has ended well."""
    return mark(folder, job, DONE).is_file()


def read_mark(folder: Path, job: Job, state: str) -> dict[str, Any] | None:
    """Return a mark's content, None where there is none."""
    try:
        content = read_json(mark(folder, job, state))
    except DataError:
        return None
    return content if isinstance(content, dict) else None


@contextlib.contextmanager
def at_work(folder: Path, job: Job) -> Iterator[bool]:
    """Hold the job's lock and show signs of life; on leaving, note that it is done, or why it failed.

    Gives whether there is anything to do: another process may have ended the job while this one waited for the lock.
    """
    with locked(folder / LOCKS / f"{job.name}.lock"):
        if is_done(folder, job):
            yield False
            return
        sign = Sign(time.time(), socket.gethostname(), os.getpid(), os.environ.get("SLURM_JOB_ID", ""))
        running = mark(folder, job, RUNNING)
        write_json(running, asdict(sign))
        mark(folder, job, FAILED).unlink(missing_ok=True)
        stop = threading.Event()
        threading.Thread(target=_beat, args=(running, stop), daemon=True).start()
        try:
            yield True
        except BaseException as error:
            first = (str(error).splitlines() or [""])[0]
            write_json(mark(folder, job, FAILED), {**asdict(sign), "error": first or type(error).__name__})
            raise
        else:
            write_json(
                mark(folder, job, DONE), {**asdict(sign), "job": job.name, "seconds": time.time() - sign.started}
            )
        finally:
            stop.set()
            running.unlink(missing_ok=True)


def _beat(running: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT):
        with contextlib.suppress(OSError):
            os.utime(running)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, waiting for it if need be."""
    with _opened(path) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_at_once(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock if it is free; give whether it was."""
    with _opened(path) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a", encoding="utf-8")


def is_alive(folder: Path, job: Job) -> bool:
    """Whether the process behind a running mark is still there."""
    content = read_mark(folder, job, RUNNING)
    if content is None:
        return False
    if content.get("host") == socket.gethostname():
        # the lock tells more than the process number, which may have been given to another process since
        with locked_at_once(folder / LOCKS / f"{job.name}.lock") as free:
            return not free
    try:
        return time.time() - mark(folder, job, RUNNING).stat().st_mtime < SILENCE
    except FileNotFoundError:
        return False
