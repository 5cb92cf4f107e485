"""Run a study's workflow with Snakemake."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TextIO
from urllib.parse import quote

from nnunet_transfer.errors import StudyError
from nnunet_transfer.gpus import visible_gpus
from nnunet_transfer.locks import locked_at_once
from nnunet_transfer.study import state
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.environment import variables
from nnunet_transfer.study.jobs import Job
from nnunet_transfer.study.processes import STOPPING, kill_session, send
from nnunet_transfer.study.progress import Progress

logger = logging.getLogger(__name__)

#: lock that allows one run of a study at a time
RUN_LOCK = "run.lock"
#: output of Snakemake in the last run, among the logs of the steps
SNAKEMAKE_LOG = "snakemake.log"
_AN_ERROR = re.compile(r"\w*(?:Error|Exception)\b")
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
    """Run all unfinished steps, until all are done or the remaining ones can't run.

    Parameters
    ----------
    slots : number of parallel steps on this machine, or of parallel jobs on the cluster
    profile : folder with Snakemake's `config.yaml`, for example for SLURM
    dry : only resolve what would run
    options : options of Snakemake

    Raises
    ------
    StudyError
        If a step failed, or the study is already running.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise StudyError(NO_SNAKEMAKE)
    where = _profile(profile, slots) if profile else _local(study, slots)  # refuse even if nothing is left to do
    study.folder.mkdir(parents=True, exist_ok=True)
    with _alone(study) as lock, as_file(files(__package__).joinpath("Snakefile")) as snakefile:
        _forget_lost_results(study, jobs)
        if not dry and all(state.is_done(study.folder, job) for job in jobs.values()):
            logger.info("all %d steps are done", len(jobs))
            return
        command = [
            *(sys.executable, "-m", f"{__package__}.snakemake_main"),
            *("--snakefile", str(snakefile)),
            *("--directory", str(study.folder)),
            # read as YAML, which would treat parts of some paths as comments
            *("--config", f"study={quote(str(study.file))}"),
            # marks are named after all inputs, so neither modification times nor code decide what to rerun
            *("--rerun-triggers", "input"),
            # the mark of a step is written atomically on success: if it exists, it is complete
            "--ignore-incomplete",
            "--keep-going",
            # a killed run leaves Snakemake's lock behind; our lock ends with the process
            "--nolock",
            *("--scheduler", "greedy"),
            *where,
            *(["--dry-run", "--quiet", "rules"] if dry else []),
            *options,
        ]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **({} if profile else _loaded_with(study, jobs))}
        if dry:
            if code := _run_to_the_end(command, environment, lock, cancel=False):
                raise StudyError(f"Snakemake can't resolve the study (status {code}); see its messages above")
            return
        log = study.folder / state.LOGS / SNAKEMAKE_LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        logger.info("Snakemake's messages: %s", log)
        logger.info("its state, in another terminal: %s --watch", study.command("status"))
        with Progress(study, jobs, slots) as progress, open(log, "w", encoding="utf-8") as output:
            code = _run_to_the_end(
                command, environment, lock, cancel=profile is not None, output=output, progress=progress
            )
    if code:
        raise StudyError(_failures(study, jobs) or _own_failure(code, log))


def _own_failure(code: int, log: Path) -> str:
    """Return why Snakemake itself failed, in one line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    named = [i for i, line in enumerate(lines) if _AN_ERROR.match(line)]
    said = " ".join(lines[named[-1] : named[-1] + 2]) if named else " ".join(lines[-1:])
    return f"Snakemake ended with status {code}: {said or 'it said nothing'}; see {log}"


def _loaded_with(study: Study, jobs: Mapping[str, Job]) -> dict[str, str]:
    """Return the environment variables for loading nnU-Net, which reads some of them only on import."""
    kinds = [kind for kind in ("report", "pretrain", "finetune") if any(job.kind == kind for job in jobs.values())]
    return variables(study, next(job for job in jobs.values() if job.kind == kinds[-1]))


def _local(study: Study, slots: int) -> list[str]:
    limits = [f"slots={slots}"]
    if gpus := visible_gpus():
        limits.append(f"gpu={len(gpus)}")
    # slots and GPUs limit parallel steps; Snakemake would also count cores and leave GPUs idle
    cores = slots * max(resources.cpus for resources in study.resources.values())
    executor = ["--executor", "forked", "--forked-study", str(study.file), "--forked-slots", str(slots)]
    return [*executor, "--cores", str(cores), "--resources", *limits]


def _profile(profile: Path, slots: int) -> list[str]:
    if not (profile / "config.yaml").is_file():
        raise StudyError(f"{profile} has no config.yaml; see docs/slurm.md for a profile")
    return ["--profile", str(profile.absolute()), "--jobs", str(slots)]


@contextlib.contextmanager
def _alone(study: Study) -> Iterator[TextIO]:
    """Hold the lock of a running study; yield the lock file."""
    path = study.folder / state.LOCKS / RUN_LOCK
    with locked_at_once(path) as lock:
        if lock is None:
            holder = path.read_text(encoding="utf-8").strip()
            raise StudyError(
                f"{study.file} is already running{holder and f' ({holder})'}; see `{study.command('status')}`"
            )
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield lock


def _run_to_the_end(
    command: Sequence[str],
    environment: Mapping[str, str],
    lock: TextIO,
    *,
    cancel: bool,
    output: TextIO | None = None,
    progress: Progress | None = None,
) -> int:
    """Run Snakemake and return its exit status; a signal to this process, to Snakemake or to a step stops all of them.

    Snakemake inherits the lock, so that the study counts as running while Snakemake runs even if this process is killed.
    Snakemake runs in a separate session, so that signals from a terminal only reach this process.

    Parameters
    ----------
    cancel : let Snakemake end by itself so that it cancels its jobs on a cluster; a second signal ends it
    output : file for Snakemake's output; default: the output of this process
    progress : progress to show while Snakemake runs

    Raises
    ------
    KeyboardInterrupt
        If a signal stopped the run; Snakemake and all its processes have then ended.
    """
    events: SimpleQueue[Ended | Signalled] = SimpleQueue()
    with _reported_signals(events):
        with _interruptible_children():
            process = subprocess.Popen(
                command,
                env=environment,
                pass_fds=[lock.fileno()],
                start_new_session=True,
                stdout=output,
                stderr=output and subprocess.STDOUT,
            )
        threading.Thread(target=lambda: events.put(Ended(process.wait())), daemon=True).start()
        try:
            event = _next_event(events, progress)
            if isinstance(event, Signalled) and cancel:
                logger.info("cancelling the jobs on the cluster; press Ctrl-C again to leave them there")
                send(process.pid, signal.SIGINT)
                events.get()
        finally:
            kill_session(process.pid)
    if isinstance(event, Signalled) or -event.status in STOPPING:
        raise KeyboardInterrupt
    return event.status


def _next_event(events: SimpleQueue[Ended | Signalled], progress: Progress | None) -> Ended | Signalled:
    while progress is not None:
        with contextlib.suppress(Empty):
            return events.get(timeout=progress.TICK)
        progress.tick()
    return events.get()


@dataclass(frozen=True)
class Ended:
    """Snakemake has ended."""

    status: int


@dataclass(frozen=True)
class Signalled:
    """This process was asked to end."""

    number: int


@contextlib.contextmanager
def _reported_signals(events: SimpleQueue[Ended | Signalled]) -> Iterator[None]:
    """Report Ctrl-C, requests to end and closed terminals; signals that are ignored (nohup) stay ignored."""

    def report(number: int, frame: FrameType | None) -> None:
        events.put(Signalled(number))

    before = {number: signal.getsignal(number) for number in STOPPING}
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
    """Make child processes interruptible: scripts start background jobs with that signal permanently ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _forget_lost_results(study: Study, jobs: Mapping[str, Job]) -> None:
    """Remove the marks of tables and reports that were deleted, so that they are made again."""
    from nnunet_transfer.study.steps import report_folder

    for job in jobs.values():
        lost = job.kind == "compare" and not (study.folder / "comparison" / job.settings["target"]).is_dir()
        if lost or (job.kind == "report" and not (report_folder(study) / "report.html").is_file()):
            state.mark(study.folder, job, state.DONE).unlink(missing_ok=True)


def _failures(study: Study, jobs: Mapping[str, Job]) -> str:
    """Return the steps that failed or were killed, in one line; empty if there are none."""
    reasons = {
        job.name: f"failed: {found.get('error', '')}"
        for job in jobs.values()
        if (found := state.read_mark(study.folder, job, state.FAILED))
    } or {
        job.name: "was killed (out of memory?)"
        for job in jobs.values()
        if state.mark(study.folder, job, state.RUNNING).is_file() and not state.is_alive(study.folder, job)
    }
    if not reasons:
        return ""
    name, reason = next(iter(reasons.items()))
    more = f" ({len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"step {name} {reason}{more}; see {state.last_log(study.folder, jobs[name])}, then run the study again"
