"""Lets a process end or stop at an event, so that a test need not be fast enough to catch it there.

Every Python that is started with this folder in PYTHONPATH imports this module first. It then reads
`AT_AN_EVENT`: a pattern of paths and the name of a signal, which the process sends to itself as soon as it has put
a file of such a path in its place.
"""

import fnmatch
import os
import signal
from pathlib import Path
from typing import Any

VARIABLE = "AT_AN_EVENT"


def environment(pattern: str, number: signal.Signals) -> dict[str, str]:
    """Return the variables for a process that shall get a signal at an event, and for all that it starts."""
    path = filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
    return {"PYTHONPATH": os.pathsep.join(path), VARIABLE: f"{number.name}:{pattern}"}


def at_replaced(pattern: str, number: signal.Signals) -> None:
    """Let this process send itself a signal when it has put a file whose path fits the pattern in its place."""
    replace = os.replace

    def replaced(source: Any, target: Any, **options: Any) -> None:
        replace(source, target, **options)
        if fnmatch.fnmatchcase(os.fspath(target), pattern):
            os.kill(os.getpid(), number)

    os.replace = replaced


if VARIABLE in os.environ:
    name, _, pattern = os.environ[VARIABLE].partition(":")
    at_replaced(pattern, signal.Signals[name])
