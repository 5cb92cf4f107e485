"""`provenance.json`: hardware, versions, inputs and cost of a training.

The file is written at the start of a training, after each epoch and at the end, so that a killed training leaves a valid file
that states this and includes the hours up to its last epoch. A training continued with `--c` adds a session.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, sha256_of, write_json
from nnunet_transfer.run_record import FILE

#: an earlier file that can't be read is renamed to this and never read again
ASIDE = "provenance.unreadable.json"
FORMAT = 1
#: in the facts of a run: which cases are trained on, and which are validated
CASES_KEY = "cases_sha256"
PACKAGES = (
    "nnunet_transfer",
    "nnunetv2",
    "torch",
    "numpy",
    "batchgeneratorsv2",
    "dynamic-network-architectures",
)
_GIT_SECONDS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """The part of a training in one process: from its start, or from `--c`, to its end or last complete epoch.

    Attributes
    ----------
    started, updated : UTC, ISO 8601; `updated` is the time of the last complete epoch or of the end
    first_epoch, epochs_done : number of complete epochs before and after this session
    finished : whether the training ended in this session
    wall_seconds : time from the start to `updated`, without the validation after the last epoch
    gpus : number of processes with a GPU
    peak_memory_bytes : peak resident memory of the first process, without its data-loading processes
    peak_gpu_memory_bytes : peak memory that the first process allocated on its GPU
    energy_joules : energy of the first process's GPU, including work of other processes, if NVML reports it and it is the only
        GPU
    changed : facts of the run that differ from the previous session -> their previous values
    """

    started: str
    updated: str
    first_epoch: int
    epochs_done: int
    finished: bool
    wall_seconds: float
    gpus: int
    device: str
    versions: Mapping[str, str | None]
    git: Mapping[str, Any] | None
    slurm_job: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None
    energy_joules: float | None = None
    changed: Mapping[str, Any] = field(default_factory=dict)


class Recorder:
    """Keep one training's `provenance.json` up to date.

    A file that can't be written is reported in the log once and never ends a training.

    Parameters
    ----------
    folder : the fold's folder in `nnUNet_results`
    run : facts of the run that stay the same from session to session
    epoch : complete epochs; at 0 the training is a new one and an earlier file is replaced
    device : torch device of this process
    processes : number of processes of a distributed training
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        run: Mapping[str, Any],
        *,
        epoch: int,
        device: Any,
        processes: int = 1,
    ) -> None:
        self._path = Path(folder) / FILE
        self._device = device
        self._clock = time.monotonic()
        self._meter = EnergyMeter(device) if processes == 1 else None
        self._failed = False
        earlier = read_earlier(self._path) if epoch > 0 else {}
        before = earlier.get("run", {})
        # a source may be gone when a training is continued; what it was is known from the start
        self._run = {key: before.get(key) if value is None else value for key, value in run.items()}
        self._earlier: list[dict[str, Any]] = earlier.get("sessions", [])
        now = _now()
        self._session = Session(
            started=now,
            updated=now,
            first_epoch=epoch,
            epochs_done=epoch,
            finished=False,
            wall_seconds=0.0,
            gpus=processes if device.type != "cpu" else 0,
            device=device_name(device),
            versions=versions(),
            git=git_state(Path(__file__).parent),
            slurm_job=slurm_job(os.environ),
            changed={key: value for key, value in before.items() if value != self._run.get(key)},
        )
        self._write()

    def note(self, **settings: Any) -> None:
        """Note what else this session runs with."""
        self._session = replace(self._session, settings={**self._session.settings, **settings})
        self._write()

    def update(self, epoch: int, *, finished: bool = False) -> None:
        """Note that `epoch` epochs are complete, or that the training came to its end."""
        self._session = replace(
            self._session,
            updated=_now(),
            epochs_done=epoch,
            finished=finished,
            wall_seconds=round(time.monotonic() - self._clock, 3),
            peak_memory_bytes=peak_memory(),
            peak_gpu_memory_bytes=peak_gpu_memory(self._device),
            energy_joules=self._meter.joules() if self._meter else None,
        )
        self._write()

    def _write(self) -> None:
        sessions = [*self._earlier, asdict(self._session)]
        content = {
            "format": FORMAT,
            "finished": self._session.finished,
            "run": self._run,
            "totals": totals(sessions, self._run.get("iterations_per_epoch") or 0),
            "sessions": sessions,
        }
        try:
            write_json(self._path, content)
        except OSError as error:
            if not self._failed:
                log.warning("%s can't be written (%s); the training goes on", self._path, error.strerror or error)
            self._failed = True


def totals(sessions: Iterable[Mapping[str, Any]], iterations_per_epoch: int) -> dict[str, Any]:
    """Sum up sessions.

    Returns
    -------
    dict
        `wall_seconds`, `gpu_hours` and `energy_joules` of all sessions, work that was lost and done again included,
        the last one None if any session doesn't know; the largest peaks; and the epochs and iterations that the last
        checkpoint may hold.
    """
    sessions = list(sessions)
    done = sessions[-1]["epochs_done"]
    energy = [session["energy_joules"] for session in sessions]
    return {
        "wall_seconds": round(sum(session["wall_seconds"] for session in sessions), 3),
        "gpu_hours": round(sum(session["wall_seconds"] * session["gpus"] for session in sessions) / 3600, 6),
        "energy_joules": None if None in energy else sum(energy),
        "peak_memory_bytes": _largest(session["peak_memory_bytes"] for session in sessions),
        "peak_gpu_memory_bytes": _largest(session["peak_gpu_memory_bytes"] for session in sessions),
        "epochs_done": done,
        "iterations_done": done * iterations_per_epoch,
    }


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def digest_of_cases(training: Iterable[str], validation: Iterable[str]) -> str:
    """Return a SHA-256 of the names of a fold's cases, whatever their order."""
    return hashlib.sha256(json.dumps([sorted(training), sorted(validation)]).encode()).hexdigest()


def read_earlier(path: Path) -> dict[str, Any]:
    """Return the content of an earlier file, or nothing; a file that isn't one is put aside and the log says so."""
    if not path.exists():
        return {}
    try:
        content = read_json(path)
        totals(content["sessions"], 0)
        dict(content["run"])
    except (DataError, OSError, KeyError, IndexError, TypeError, ValueError):
        aside = path.with_name(ASIDE)
        try:
            os.replace(path, aside)
        except OSError:
            aside = path
        log.warning("%s can't be read; what it said is kept in %s, and recording starts again", path, aside.name)
        return {}
    return content


def sha256_or_none(path: str | os.PathLike[str]) -> str | None:
    """Return a file's SHA-256, None where there is no such file."""
    return sha256_of(path) if Path(path).is_file() else None


def versions() -> dict[str, str | None]:
    """Return the versions of Python, of the packages that matter, and of CUDA and cuDNN as torch was built with them."""
    import torch

    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "torch": torch.__version__,  # with the build, such as 2.9.1+cu128
        "cuda": torch.version.cuda,
        "cudnn": None if cudnn is None else str(cudnn),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and whether tracked files were changed, if git knows this package's files; else None."""
    if _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # no optional locks: a training must not get in the way of the user's own git commands
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def slurm_job(environment: Mapping[str, str]) -> str | None:
    """Return the SLURM job's id, `<array>_<task>` for one of an array; None outside SLURM."""
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID")


def device_name(device: Any) -> str:
    """Return a torch device's name, such as `NVIDIA A100-SXM4-40GB`; a CPU's kind."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {os.cpu_count()} cores)"


def peak_memory() -> int | None:
    """Return the most memory that this process ever had, in bytes; None where the system doesn't tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # getrusage(2): kilobytes on Linux, bytes on macOS
    return peak if sys.platform == "darwin" else peak * 1024


def peak_gpu_memory(device: Any) -> int | None:
    """Return the most memory that torch allocated on a CUDA device, in bytes; None on other devices."""
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated(device)


class EnergyMeter:
    """Energy that a CUDA device drew since the meter was made, where pynvml is installed and the driver tells."""

    def __init__(self, device: Any) -> None:
        self._read = _energy_counter(device) if device.type == "cuda" else None
        self._start = self._read() if self._read else 0

    def joules(self) -> float | None:
        """Return the energy so far, None where unknown."""
        if self._read is None:
            return None
        try:
            return (self._read() - self._start) / 1000
        except Exception:  # NVMLError has no base that is known without pynvml; a lost device must not end a training
            return None


def _energy_counter(device: Any) -> Any:
    """Return a function that reads the device's counter in millijoules, or None."""
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        # CUDA_VISIBLE_DEVICES renumbers torch's devices, not NVML's
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # as above; GPUs before Volta have no counter
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
