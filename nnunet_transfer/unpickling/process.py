"""The process that reads foreign files: `main` runs in it, `answer_of` starts it.

It gets one JSON object on stdin and writes one to stdout: what was asked for, or the reason why there is nothing, under
`asks_for`, `refused` or `damaged`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from nnunet_transfer.unpickling.limits import MEMORY_LIMIT, SECONDS_LIMIT, DamagedError, RefusedError, UnknownNameError

#: wall time in seconds that a process may take: more than its processor time, because the processor may be busy
PATIENCE = 300
_CODE = "import sys; sys.path.append(sys.argv[1]); from nnunet_transfer.unpickling.process import main; main()"


def answer_of(task: dict[str, Any], *, memory: int = MEMORY_LIMIT, seconds: int = SECONDS_LIMIT) -> dict[str, Any]:
    """Run a task in a separate process; return its answer.

    Parameters
    ----------
    task : `read`, a torch file; or `rename`, keys, with `rules`
    memory : bytes that the process may take
    seconds : of processor time that it may take

    Returns
    -------
    dict
        With the reason under `damaged` if the process ended without an answer.
    """
    # isolated and without installed packages: only the standard library is imported
    command = [sys.executable, "-I", "-S", "-c", _CODE, str(Path(__file__).parents[2])]
    task = {**task, "memory": memory, "seconds": seconds}
    try:
        run = subprocess.run(command, input=json.dumps(task).encode(), capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return {"damaged": f"it takes longer than {PATIENCE} s"}
    if run.returncode or not run.stdout:
        return {"damaged": f"reading it ended with status {run.returncode}, in {seconds} s and {memory >> 20} MiB"}
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def main() -> None:
    """Run the task that stdin describes."""
    task = json.loads(sys.stdin.buffer.read())
    _limit(task["memory"], task["seconds"])
    sys.stdout.buffer.write(json.dumps(answer(task)).encode())


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows; what is read is bounded by itself, too
        return
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        # the user's own limit may be lower, and macOS has no limit on memory
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """Run a task; return the answer, or the reason why there is none."""
    from nnunet_transfer.unpickling.renaming import renamed
    from nnunet_transfer.unpickling.torch_files import DAMAGED_ARCHIVE, read_torch_file

    try:
        if "rename" in task:
            names, unused = renamed(task["rename"], task["rules"])
            return {"names": names, "unused": unused}
        return read_torch_file(task["read"])
    except UnknownNameError as error:
        return {"asks_for": str(error)}
    except RefusedError as error:
        return {"refused": str(error)}
    except DamagedError as error:
        return {"damaged": str(error)}
    except MemoryError:
        return {"damaged": "it takes more memory than any network"}
    except (OSError, *DAMAGED_ARCHIVE) as error:
        return {"damaged": (str(error) or type(error).__name__)[:200]}
