"""Run a study's workflow with Snakemake."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TextIO
from urllib.parse import quote

import psutil

from nnunet_transfer.errors import StudyError
from nnunet_transfer.study import state
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.gpus import visible_gpus
from nnunet_transfer.study.jobs import Job

logger = logging.getLogger(__name__)

#: one run of a study at a time
RUN_LOCK = "run.lock"
_SECONDS_BETWEEN_SIGNALS = 1.0
_SECONDS_TO_DIE = 0.05
NO_SNAKEMAKE = "Snakemake is missing; it needs Python 3.11 or newer: pip install snakemake"


def run_study(
    study: Study,
    jobs: dict[str, Job],
    *,
    slots: int,
    profile: Path | None = None,
    dry: bool = False,
    options: Sequence[str] = (),
) -> None:
    """Run all steps that aren't done; ends when all are done, or when what is left can't be done.

    Parameters
    ----------
    slots : steps at a time on this machine, or jobs at a time in the cluster
    profile : folder with Snakemake's `config.yaml`, for instance for SLURM
    dry : only resolve what would run
    options : for Snakemake

    Raises
    ------
    StudyError
        If a step failed, or the study is being run already.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise StudyError(NO_SNAKEMAKE)
    study.folder.mkdir(parents=True, exist_ok=True)
    with _alone(study) as lock, as_file(files(__package__).joinpath("Snakefile")) as snakefile:
        _forget_lost_results(study, jobs)
        command = [
            sys.executable,
            "-m",
            "snakemake",
            *("--snakefile", str(snakefile)),
            *("--directory", str(study.folder)),
            # read as YAML, which would take a part of some paths for a comment
            *("--config", f"study={quote(str(study.file))}"),
            # marks are named after all they depend on: neither times nor code decide what is run again
            *("--rerun-triggers", "input"),
            # a step's mark is written in one go when it has ended well: if it is there, it is complete
            "--ignore-incomplete",
            "--keep-going",
            # a killed run leaves Snakemake's own lock behind; ours goes with the process
            "--nolock",
            *("--scheduler", "greedy"),
            *(_profile(profile, slots) if profile else _local(study, slots)),
            *(["--dry-run", "--quiet", "rules"] if dry else []),
            *options,
        ]
        code = _run_to_the_end(command, lock, steps_here=profile is None)
    if code and not dry:
        raise StudyError(
            _failures(study, jobs)
            or f"Snakemake ended with status {code}; its messages above or {study.folder / state.LOGS} say why"
        )
    if code:
        raise StudyError(f"Snakemake can't resolve the study (status {code}); its messages stand above")


def _local(study: Study, slots: int) -> list[str]:
    limits = [f"slots={slots}"]
    if gpus := visible_gpus():
        limits.append(f"gpu={len(gpus)}")
    # slots and GPUs decide what runs at a time; Snakemake would also count cores and leave GPUs idle
    cores = slots * max(resources.cpus for resources in study.resources.values())
    return ["--cores", str(cores), "--resources", *limits]


def _profile(profile: Path, slots: int) -> list[str]:
    if not (profile / "config.yaml").is_file():
        raise StudyError(f"{profile} has no config.yaml; see docs/slurm.md for a profile")
    return ["--profile", str(profile.absolute()), "--jobs", str(slots)]


@contextlib.contextmanager
def _alone(study: Study) -> Iterator[TextIO]:
    """Hold the lock on running a study; give the file that holds it."""
    path = study.folder / state.LOCKS / RUN_LOCK
    with state.locked_at_once(path) as lock:
        if lock is None:
            holder = path.read_text(encoding="utf-8").strip()
            raise StudyError(
                f"{study.file} is being run already{holder and f' ({holder})'}; "
                f"see `nnunet_transfer study status {study.file}`"
            )
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield lock


def _run_to_the_end(command: Sequence[str], lock: TextIO, *, steps_here: bool) -> int:
    """Run Snakemake and return its exit status; a signal stops it with its steps, or takes its jobs off the cluster.

    Snakemake inherits the lock: were this process killed, the study would still count as running while Snakemake runs.
    It leads a session of its own, so that no signal reaches it or its steps before this process knows of it.

    Raises
    ------
    KeyboardInterrupt
        If a signal stopped the run; by then, Snakemake and all that it started are gone.
    """
    events: SimpleQueue[Ended | Signalled] = SimpleQueue()
    with _reported_signals(events):
        with _interruptible_children():
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            process = subprocess.Popen(command, env=environment, pass_fds=[lock.fileno()], start_new_session=True)
        threading.Thread(target=lambda: events.put(Ended(process.wait())), daemon=True).start()
        try:
            return _until_the_end(process.pid, events, steps_here)
        finally:
            # Workers of steps that were killed from outside would be left over, and hold the steps' locks
            end_session(process.pid)


@dataclass(frozen=True)
class Ended:
    """Snakemake has ended."""

    status: int


@dataclass(frozen=True)
class Signalled:
    """This process was asked to end."""

    number: int


def _until_the_end(snakemake: int, events: SimpleQueue[Ended | Signalled], steps_here: bool) -> int:
    """Wait for Snakemake's end; stop it at the first signal, give up waiting for it at the second."""
    event = events.get()
    if isinstance(event, Ended):
        return event.status
    logger.info("stopping the steps that run; press Ctrl-C again to kill them")
    _send(snakemake, signal.SIGINT)
    while True:
        # A step may start after the signal was sent, because Snakemake had begun to start it before
        for step in set(session_members(snakemake)) - {snakemake} if steps_here else ():
            _send(step, signal.SIGINT)
        with contextlib.suppress(Empty):
            events.get(timeout=_SECONDS_BETWEEN_SIGNALS)
            raise KeyboardInterrupt


def _send(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def session_members(session: int) -> list[int]:
    """Return the processes of a session that still run."""
    return [pid for pid in psutil.pids() if _is_member(pid, session)]


def _is_member(pid: int, session: int) -> bool:
    try:
        return os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def end_session(session: int) -> None:
    """Kill what is left of a session; return when it is gone."""
    while members := session_members(session):
        for member in members:
            _send(member, signal.SIGKILL)
        time.sleep(_SECONDS_TO_DIE)


@contextlib.contextmanager
def _reported_signals(events: SimpleQueue[Ended | Signalled]) -> Iterator[None]:
    """Report Ctrl-C, a request to end, and a terminal that is closed; what was ignored (nohup) stays ignored."""

    def report(number: int, frame: FrameType | None) -> None:
        events.put(Signalled(number))

    before = {number: signal.getsignal(number) for number in state.STOPPING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, report)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _interruptible_children() -> Iterator[None]:
    """Let what is started here be interrupted: scripts start background jobs with that signal ignored for good."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _forget_lost_results(study: Study, jobs: Mapping[str, Job]) -> None:
    """Drop the marks of tables and reports that were deleted since, so that they are made again."""
    from nnunet_transfer.study.steps import report_folder

    for job in jobs.values():
        lost = job.kind == "compare" and not (study.folder / "comparison" / job.settings["target"]).is_dir()
        if lost or (job.kind == "report" and not (report_folder(study) / "report.html").is_file()):
            state.mark(study.folder, job, state.DONE).unlink(missing_ok=True)


def _failures(study: Study, jobs: dict[str, Job]) -> str:
    failed = [(job, found) for job in jobs.values() if (found := state.read_mark(study.folder, job, state.FAILED))]
    if not failed:
        return ""
    job, found = failed[0]
    more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
    log = state.last_log(study.folder, job)
    return f"step {job.name} failed: {found.get('error', '')}{more}; see {log}, then run the study again"
