"""Checks of the folders in which nnU-Net looks for trainers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from nnunet_transfer.discovery import VARIABLE, is_searched, python_files
from nnunet_transfer.doctor.findings import IMPORT_TIMEOUT, Finding, State
from nnunet_transfer.errors import one_line
from nnunet_transfer.naming import bases

SET_UP = 'eval "$(nnunet_transfer env)"'
SHADOWING = "rename or remove that class: nnU-Net would train it instead of this package's trainer"

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
