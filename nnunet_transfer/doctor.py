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
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from nnunet_transfer.comparison.loaded import doubtful_arms
from nnunet_transfer.discovery import VARIABLE, is_searched, python_files
from nnunet_transfer.errors import TransferError, one_line
from nnunet_transfer.gpus import named_gpus
from nnunet_transfer.naming import ARMS, bases
from nnunet_transfer.paths import FOLDERS, nnunet_results, sources_folder
from nnunet_transfer.sources import TASKS, load_source

SUPPORTED_PYTHON = ((3, 11), (3, 13))
#: other systems lack these file locks and fork
PLATFORMS = ("linux", "darwin")
SUPPORTED_NNUNET = "2.8"
SET_UP = 'eval "$(nnunet_transfer env)"'
SHADOWING = "rename or remove that class: nnU-Net would train it instead of this package's trainer"

#: GB; this package's choice. Checkpoints of one fold take about 1 GB, preprocessed data tens of GB.
LITTLE_SPACE, NO_SPACE = 20, 1
#: seconds; the first import from a cold network drive takes minutes
IMPORT_TIMEOUT = 300

# runs in a separate process: a broken build may raise, abort or hang
_IMPORT_TORCH = """
import json, importlib.metadata as m
found = {"torch": None, "torchvision": None, "error": None, "gpu": None, "cuda": None}
for name in ("torch", "torchvision"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
try:
    import torch
    found["torch"] = torch.__version__
    found["cuda"] = getattr(getattr(torch, "version", None), "cuda", None)
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

# nnU-Net's own search for a name that doesn't exist; in a separate process, because it imports the user's files
_SEARCH_FOLDER = """
import json, sys, traceback
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
folder = sys.argv[1]
try:
    recursive_find_python_class(folder, "", None, base_folder=folder, cleanup_imports_from_base_folder=True)
except BaseException as error:
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    inside = [file for file in files if file.startswith(folder)]
    print("\\nFAULT " + json.dumps([(inside or [folder])[-1], f"{type(error).__name__}: {error}"]))
"""
_SAID = "FAULT "


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, what it found, and the fix."""

    check: str
    state: State
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.state.value:<5} {self.check}: {self.found}" + (f"; {self.fix}" if self.fix else "")


def check_python() -> Iterator[Finding]:
    """Whether system and Python are supported, and nnU-Net's commands are those of this Python."""
    if sys.platform not in PLATFORMS:
        fix = "use Linux or macOS, or WSL on Windows"
        yield Finding("system", State.FAIL, f"{sys.platform} is not supported: studies need other file locks", fix)
    found = ".".join(map(str, sys.version_info[:3]))
    low, high = (".".join(map(str, v)) for v in SUPPORTED_PYTHON)
    if SUPPORTED_PYTHON[0] <= sys.version_info[:2] <= SUPPORTED_PYTHON[1]:
        yield Finding("Python", State.OK, found)
    else:
        yield Finding("Python", State.FAIL, found, f"use Python {low} to {high}")
    if find_spec("nnunet_transfer.trainers") is None:
        fix = "install it again with `pip install .`, pip 21.3 or newer"
        yield Finding("nnunet_transfer", State.FAIL, "installed without its trainers", fix)


def check_commands() -> Iterator[Finding]:
    """Whether the commands on the PATH belong to this Python; another Python doesn't have this package."""
    own = Path(sys.executable).parent
    places = {name: shutil.which(name) for name in ("nnUNetv2_train", "nnunet_transfer") if (own / name).exists()}
    wrong = [
        f"{name} is {found or 'not on the PATH'}"
        for name, found in places.items()
        if found is None or not Path(found).samefile(own / name)
    ]
    if wrong:
        fix = f"activate this Python's environment, or put {own} first on the PATH"
        yield Finding("commands", State.WARN, f"{', '.join(wrong)}; this is the Python of {sys.prefix}", fix)
    elif places:
        yield Finding("commands", State.OK, str(own))


def check_versions() -> Iterator[Finding]:
    """Whether all required packages are installed in tested versions."""
    try:
        needed = [Requirement(text) for text in requires("nnunet_transfer") or ()]
    except (PackageNotFoundError, InvalidRequirement):
        yield Finding("versions", State.WARN, "unknown: this package isn't installed", "pip install .")
        return
    wrong = []
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(Finding("versions", State.FAIL, f"{requirement.name} is missing", _install(requirement)))
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            text = f"{requirement.name} {found} was not tested; tested: {requirement.specifier}"
            wrong.append(Finding("versions", State.FAIL, text, _install(requirement)))
    yield from wrong or [Finding("versions", State.OK, f"{len(needed)} requirements checked")]


def _install(requirement: Requirement) -> str:
    return f"pip install '{requirement.name}{requirement.specifier}'"


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
        yield _gpu_finding(found["gpu"], found["cuda"])


def _gpu_finding(gpu: str | None, cuda: str | None) -> Finding:
    if gpu:
        return Finding("GPU", State.OK, gpu)
    card = _graphics_card()
    if card and cuda is None:
        fix = "install torch and torchvision together for your CUDA: https://pytorch.org/get-started/locally"
        return Finding("GPU", State.FAIL, f"there is {card}, but this torch is built without CUDA", fix)
    if card:
        fix = "update the NVIDIA driver, or install a torch for an older CUDA"
        return Finding("GPU", State.FAIL, f"there is {card}, but torch (CUDA {cuda}) can't use it", fix)
    fix = "training will be slow; add `-device cpu` to nnU-Net's commands"
    return Finding("GPU", State.WARN, "none that torch can use", fix)


def _graphics_card() -> str:
    """Return the GPUs that NVIDIA's driver lists; empty without a driver or a card."""
    program = shutil.which("nvidia-smi")
    if program is None or named_gpus() == []:
        return ""
    try:
        run = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.splitlines()[0].split(" (UUID")[0] if run.returncode == 0 and run.stdout.strip() else ""


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
            f"{found} are different builds (for example one for CPU and one for CUDA) and can't be imported together "
            f"({error}); this breaks nnU-Net's trainer lookup",
            f"install both in one command from one index: {together}",
        )
    return Finding("torch", State.FAIL, f"{found} can't be imported ({error})", together)


def check_folders() -> Iterator[Finding]:
    """Whether nnU-Net's three folders are set, exist, can be written, and have space."""
    disks: dict[int, Path] = {}
    known: dict[str, str] = {}
    for variable in FOLDERS:
        value = os.environ.get(variable, "")
        folder = Path(value)
        if not value:
            finding = Finding(variable, State.FAIL, "not set", f"export {variable}=/a/folder")
        elif value.startswith("~"):
            finding = Finding(variable, State.FAIL, f"{value} has an unexpanded ~", "write the path without quotes")
        elif reason := _why_unreadable(folder):
            fix = "choose another folder, or fix its permissions"
            finding = Finding(variable, State.FAIL, f"{folder} can't be read ({reason})", fix)
        elif folder.exists() and not folder.is_dir():
            finding = Finding(variable, State.FAIL, f"{folder} is a file", "give a folder, or move the file away")
        elif twin := known.get(os.path.realpath(folder)):
            found = f"{folder} is also {twin}, so nnU-Net would mix up their content"
            finding = Finding(variable, State.FAIL, found, f"export {variable}=/another/folder")
        elif not folder.is_dir():
            finding = Finding(variable, State.FAIL, f"{folder} doesn't exist", f"mkdir -p {folder}")
        elif not os.access(folder, os.W_OK | os.X_OK):
            finding = Finding(
                variable, State.FAIL, f"{folder} is not writable", "choose another folder, or fix its permissions"
            )
        else:
            finding = Finding(variable, State.OK, str(folder))
            disks.setdefault(folder.stat().st_dev, folder)
        if value:
            known.setdefault(os.path.realpath(folder), variable)
        yield finding
    yield from map(_space, disks.values())


def _why_unreadable(folder: Path) -> str:
    """Return why a folder can't be looked into; empty if it can, is a file, or doesn't exist."""
    try:
        if folder.is_dir():
            os.scandir(folder).close()
        else:
            folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _space(folder: Path) -> Finding:
    gigabytes = shutil.disk_usage(folder).free / 1e9
    found = f"{gigabytes:.1f} GB free at {folder}"
    if gigabytes >= LITTLE_SPACE:
        return Finding("disk", State.OK, found)
    return Finding("disk", State.FAIL if gigabytes < NO_SPACE else State.WARN, found, "free some space")


def check_search_path() -> Iterator[Finding]:
    """Whether nnU-Net finds the trainers, and no others with the same names."""
    value = os.environ.get(VARIABLE, "")
    if is_searched(value):
        yield Finding(VARIABLE, State.OK, value)
    else:
        found = f"{value} lacks this package's folder" if value else "not set"
        yield Finding(VARIABLE, State.FAIL, found, f"run {SET_UP} in each shell, or put it into your profile")
    yield from _plugins(value)
    for folder in _searched_before(value):
        for name, file in sorted(_classes(folder)):
            yield Finding("trainer names", State.FAIL, f"{file} has a class {name}, found first", SHADOWING)


def _plugins(value: str) -> Iterator[Finding]:
    """Name other folders on the search path that break nnU-Net's search for trainers."""
    for text in filter(None, value.split(os.pathsep)):
        folder = Path(text)
        if is_searched(text):
            continue
        if not folder.is_dir():
            fix = f"take it out of {VARIABLE}"
            yield Finding("other trainers", State.WARN, f"{folder} in {VARIABLE} is not a folder", fix)
            continue
        command = [sys.executable, "-c", _SEARCH_FOLDER, str(folder)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT)
        except subprocess.TimeoutExpired:
            found = f"importing {folder} took more than {IMPORT_TIMEOUT} s"
            yield Finding("other trainers", State.FAIL, found, f"take it out of {VARIABLE}")
            continue
        # imported files may print, too; our line is the last
        if run.stdout.strip() and (said := run.stdout.splitlines()[-1]).startswith(_SAID):
            file, error = json.loads(said.removeprefix(_SAID))
            found = f"{file} can't be imported ({one_line(error, 200)}); this breaks nnU-Net's trainer lookup"
            yield Finding("other trainers", State.FAIL, found, f"correct it, or take {folder} out of {VARIABLE}")


def _searched_before(value: str) -> Iterator[Path]:
    """Yield the folders that nnU-Net searches before this package's: its own, then the user's."""
    nnunet = find_spec("nnunetv2")
    if nnunet is not None and nnunet.origin is not None:
        yield Path(nnunet.origin).parent / "training" / "nnUNetTrainer"
    for folder in filter(None, value.split(os.pathsep)):
        if is_searched(folder):
            return
        yield Path(folder)


def _classes(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the classes in `folder` that have the name of one of this package's trainers, with or without a suffix."""
    ours = re.compile(rf"^class ((?:{'|'.join(bases())})(?:_\w+)?)\b", re.MULTILINE)
    for file, text in python_files(folder):
        for name in ours.findall(text):
            yield name, file


def check_sources() -> Iterator[Finding]:
    """Whether the sources of the six arms are in the registry, unchanged."""
    try:
        registry = sources_folder()
    except TransferError:
        yield Finding("sources", State.WARN, "not checked", "set nnUNet_results or nnUNet_sources")
        return
    if reason := _why_unreadable(registry):
        yield Finding("sources", State.FAIL, f"{registry} can't be read ({reason})", "fix its permissions")
        return
    if registry.exists() and not registry.is_dir():
        yield Finding("sources", State.FAIL, f"{registry} is a file", "give nnUNet_sources a folder")
        return
    wanted = {name: arm for arm, name in ARMS.items() if name is not None}
    for name, arm in wanted.items():
        if not (registry / name).is_dir():
            fix = "make it with a pretrainer or `nnunet_transfer sources add`"
            found = f"not in {registry}, so that {arm} can't train"
            yield Finding(f"source {name}", State.WARN, found, fix)
    here = sorted(path.name for path in registry.iterdir() if path.is_dir()) if registry.is_dir() else []
    for name in here:
        if not name.startswith("."):
            yield from _source_findings(name)


def _source_findings(name: str) -> Iterator[Finding]:
    check = f"source {name}"
    try:
        source = load_source(name)
        source.verify()
    except TransferError as error:
        yield Finding(check, State.FAIL, str(error))
        return
    yield Finding(check, State.OK, f"unchanged, {source.weights.stat().st_size / 1e6:.1f} MB")
    if text := _contradiction(name, source.card.task, source.card.domain):
        fix = "give it a name that says what it is: `sources add` under another name"
        yield Finding(check, State.WARN, text, fix)


def _contradiction(name: str, task: str, domain: str) -> str:
    """Return how a source's name contradicts its card; empty if it doesn't."""
    words = "_".join(re.findall("[a-z0-9]+", name.lower()))
    named = [word for word in TASKS if word in words]
    if named and task not in named:
        return f"its name says {named[0]}, its card says {task}"
    expected = words.partition("_")[0] if name in ARMS.values() else domain
    return f"its name says {expected} images, its card says {domain}" if domain != expected else ""


def check_trained() -> Iterator[Finding]:
    """Whether the sources that the trained arms loaded agree with the names of the arms."""
    try:
        found = list(doubtful_arms(nnunet_results()))
    except (TransferError, OSError):
        return  # the folder has a check of its own
    for dataset, text in found:
        fix = "compare uses what was loaded; train the arm again from the source that its name says"
        yield Finding(f"trained {dataset}", State.WARN, text, fix)


#: each before those that its failure would break
CHECKS: tuple[Callable[[], Iterable[Finding]], ...] = (
    check_python,
    check_commands,
    check_nnunet,
    check_versions,
    check_torch,
    check_folders,
    check_search_path,
    check_sources,
    check_trained,
)


def examine() -> Iterator[Finding]:
    """Run all checks, in order."""
    for check in CHECKS:
        yield from check()
