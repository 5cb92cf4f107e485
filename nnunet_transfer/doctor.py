"""Checks of the installation, the environment and the sources, each with its fix.

Nothing here imports torch or nnunetv2 into this process: what is broken must not stop the check that names it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from nnunet_transfer.discovery import VARIABLE, is_searched
from nnunet_transfer.errors import TransferError
from nnunet_transfer.naming import ARMS, bases
from nnunet_transfer.paths import sources_folder
from nnunet_transfer.sources import load_source

SUPPORTED_PYTHON = ((3, 10), (3, 13))
SUPPORTED_NNUNET = "2.8"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
SET_UP = 'eval "$(nnunet_transfer env)"'
SHADOWING = "rename or remove that class: nnU-Net would train it instead of this package's trainer"

#: GB; this package's choice. Checkpoints of one fold take about 1 GB, preprocessed data tens of GB.
LITTLE_SPACE, NO_SPACE = 20, 1
#: seconds; the first import from a cold network drive takes minutes
IMPORT_TIMEOUT = 300

# runs in a process of its own: a broken build may raise, abort or hang
_IMPORT_TORCH = """
import json, importlib.metadata as m
found = {"torch": None, "torchvision": None, "error": None, "gpu": None}
for name in ("torch", "torchvision"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
try:
    import torch
    found["torch"] = torch.__version__
    if torch.cuda.is_available():
        found["gpu"] = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    elif torch.backends.mps.is_available():
        found["gpu"] = "Apple MPS"
    import torchvision
    found["torchvision"] = torchvision.__version__
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps(found))
"""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """The result of one check: what was looked at, what was found, and what fixes it."""

    check: str
    state: State
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.state.value:<5} {self.check}: {self.found}" + (f"; {self.fix}" if self.fix else "")


def check_python() -> Iterator[Finding]:
    """Whether this Python is supported and the package is installed completely."""
    found = ".".join(map(str, sys.version_info[:3]))
    low, high = (".".join(map(str, v)) for v in SUPPORTED_PYTHON)
    if SUPPORTED_PYTHON[0] <= sys.version_info[:2] <= SUPPORTED_PYTHON[1]:
        yield Finding("Python", State.OK, found)
    else:
        yield Finding("Python", State.FAIL, found, f"use Python {low} to {high}")
    if find_spec("nnunet_transfer.trainers") is None:
        fix = "install it again with `pip install .`, pip 21.3 or newer"
        yield Finding("nnunet_transfer", State.FAIL, "installed without its trainers", fix)


def check_nnunet() -> Iterator[Finding]:
    """Whether nnU-Net is installed in a version this package was tested with."""
    try:
        found = version("nnunetv2")
    except PackageNotFoundError:
        yield Finding("nnunetv2", State.FAIL, "not installed", f"pip install 'nnunetv2=={SUPPORTED_NNUNET}.*'")
        return
    if found.split(".")[:2] == SUPPORTED_NNUNET.split("."):
        yield Finding("nnunetv2", State.OK, found)
    else:
        fix = f"pip install 'nnunetv2=={SUPPORTED_NNUNET}.*'"
        yield Finding("nnunetv2", State.FAIL, f"{found}, tested with {SUPPORTED_NNUNET}", fix)


def check_torch() -> Iterator[Finding]:
    """Whether torch and torchvision import together, and whether there is a GPU."""
    command = [sys.executable, "-c", _IMPORT_TORCH]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT)
    except subprocess.TimeoutExpired:
        yield Finding("torch", State.FAIL, f"importing it took more than {IMPORT_TIMEOUT} s", "install it again")
        return
    try:
        found = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        found = {"torch": None, "torchvision": None, "error": f"Python ended with status {run.returncode}"}
    yield _torch_finding(found["torch"], found["torchvision"], found["error"])
    if not found["error"]:
        gpu = found["gpu"]
        fix = "training will be slow; add `-device cpu` to nnU-Net's commands"
        yield Finding("GPU", State.OK, gpu) if gpu else Finding("GPU", State.WARN, "none that torch can use", fix)


def _torch_finding(torch: str | None, torchvision: str | None, error: str | None) -> Finding:
    found = f"torch {torch or 'missing'}, torchvision {torchvision or 'missing'}"
    if error is None:
        return Finding("torch", State.OK, found)
    together = "pip install --force-reinstall torch torchvision"
    if torch is None or torchvision is None:
        return Finding("torch", State.FAIL, f"{found} ({error})", "pip install torch torchvision")
    if "torchvision::" in error or "different CUDA" in error or "libtorch" in error or "undefined symbol" in error:
        return Finding(
            "torch",
            State.FAIL,
            f"{found} are of different builds (for example a CPU build beside one for CUDA) and don't import together "
            f"({error}); nnU-Net's search for trainers dies with it",
            f"install both in one command from one index: {together}",
        )
    return Finding("torch", State.FAIL, f"{found} don't import ({error})", together)


def check_folders() -> Iterator[Finding]:
    """Whether nnU-Net's three folders are set, exist, can be written, and have space."""
    disks: dict[int, Path] = {}
    for variable in FOLDERS:
        value = os.environ.get(variable, "")
        folder = Path(value)
        if not value:
            finding = Finding(variable, State.FAIL, "not set", f"export {variable}=/a/folder")
        elif value.startswith("~"):
            finding = Finding(variable, State.FAIL, f"{value} has an unexpanded ~", "write the path without quotes")
        elif not folder.is_dir():
            finding = Finding(variable, State.FAIL, f"{folder} is no folder", f"mkdir -p {folder}")
        elif not os.access(folder, os.W_OK | os.X_OK):
            finding = Finding(variable, State.FAIL, f"{folder} can't be written", "choose another, or fix its rights")
        else:
            finding = Finding(variable, State.OK, str(folder))
            disks.setdefault(folder.stat().st_dev, folder)
        yield finding
    yield from map(_space, disks.values())


def _space(folder: Path) -> Finding:
    gigabytes = shutil.disk_usage(folder).free / 1e9
    found = f"{gigabytes:.1f} GB free at {folder}"
    if gigabytes >= LITTLE_SPACE:
        return Finding("disk", State.OK, found)
    return Finding("disk", State.FAIL if gigabytes < NO_SPACE else State.WARN, found, "free some space")


def check_search_path() -> Iterator[Finding]:
    """Whether nnU-Net finds the trainers, and finds these and no others of their names."""
    value = os.environ.get(VARIABLE, "")
    if is_searched(value):
        yield Finding(VARIABLE, State.OK, value)
    else:
        found = f"{value} lacks this package's folder" if value else "not set"
        yield Finding(VARIABLE, State.FAIL, found, f"run {SET_UP} in each shell, or put it into your profile")
    for folder in _searched_before(value):
        for name, file in sorted(_classes(folder)):
            yield Finding("trainer names", State.FAIL, f"{file} has a class {name}, found first", SHADOWING)


def _searched_before(value: str) -> Iterator[Path]:
    """Give the folders that nnU-Net searches before this package's: its own, then those set by the user."""
    nnunet = find_spec("nnunetv2")
    if nnunet is not None and nnunet.origin is not None:
        yield Path(nnunet.origin).parent / "training" / "nnUNetTrainer"
    for folder in filter(None, value.split(os.pathsep)):
        if is_searched(folder):
            return
        yield Path(folder)


def _classes(folder: Path) -> Iterator[tuple[str, Path]]:
    """Give the classes in `folder` that have a name of ours or of ours with a suffix."""
    ours = re.compile(rf"^class ((?:{'|'.join(bases())})(?:_\w+)?)\b", re.MULTILINE)
    for file in folder.rglob("*.py"):
        for name in ours.findall(file.read_text(encoding="utf-8", errors="replace")):
            yield name, file


def check_sources() -> Iterator[Finding]:
    """Whether the sources of the six arms are in the registry, unchanged."""
    try:
        registry = sources_folder()
    except TransferError:
        yield Finding("sources", State.WARN, "not looked for", "set nnUNet_results or nnUNet_sources")
        return
    for arm, name in ARMS.items():
        if name is not None:
            yield _source_finding(arm, name, registry)


def _source_finding(arm: str, name: str, registry: Path) -> Finding:
    check = f"source {name}"
    if not (registry / name).is_dir():
        fix = "make it with a pretrainer or `nnunet_transfer sources add`"
        return Finding(check, State.WARN, f"not in {registry}, so that {arm} can't train", fix)
    try:
        source = load_source(name)
        source.verify()
    except TransferError as error:
        return Finding(check, State.FAIL, str(error))
    return Finding(check, State.OK, f"unchanged, {source.weights.stat().st_size / 1e6:.1f} MB")


#: in the order in which faults follow from one another
CHECKS: tuple[Callable[[], Iterable[Finding]], ...] = (
    check_python,
    check_nnunet,
    check_torch,
    check_folders,
    check_search_path,
    check_sources,
)


def examine() -> Iterator[Finding]:
    """Run all checks, in order."""
    for check in CHECKS:
        yield from check()
