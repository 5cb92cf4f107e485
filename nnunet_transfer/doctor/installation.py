"""Checks of system, Python and packages."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from nnunet_transfer.doctor.findings import Finding, State

SUPPORTED_PYTHON = ((3, 11), (3, 13))
#: other systems lack these file locks and fork
PLATFORMS = ("linux", "darwin")
SUPPORTED_NNUNET = "2.8"


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
