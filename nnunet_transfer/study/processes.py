"""The processes of a run: all processes of Snakemake are in one session, and each step has its own process group."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import psutil

#: signals by which a user, a terminal or a cluster asks a run or a step to end
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SECONDS_TO_DIE = 0.02
_starts_and_polls = threading.Lock()


def end_at_signals() -> None:
    """Let a signal end this process at once, without a Python exception that code could misinterpret or swallow.

    The system releases the locks of the process, and all files are written atomically. Ignored signals stay ignored.
    """
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def run_to_end(process: BaseProcess) -> int:
    """Start a process of multiprocessing, wait for its end and return its exit status; several threads may do so at once.

    `Process.start` also polls all processes that were started before. If two threads poll one that has just ended, one of them
    finds its status already read and takes 255 for it (CPython's `popen_forkserver`), so a step that ended well would fail.
    """
    with _starts_and_polls:
        process.start()
    wait([process.sentinel])
    with _starts_and_polls:
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def send(process: int, number: signal.Signals) -> None:
    """Send a signal to a process if it still exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def kill_session(session: int) -> None:
    """Kill all processes of a session and wait until they have ended."""
    while members := [pid for pid in psutil.pids() if _is_member(pid, session)]:
        for member in members:
            send(member, signal.SIGKILL)
        time.sleep(_SECONDS_TO_DIE)


def kill_group(group: int) -> None:
    """Kill all processes of a group in this process's session."""
    session = os.getsid(0)
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == group and os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)


def _is_member(pid: int, session: int) -> bool:
    try:
        return os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False
