"""Checks of nnU-Net's folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from nnunet_transfer.doctor.findings import Finding, State
from nnunet_transfer.paths import FOLDERS

#: GB; this package's choice. Checkpoints of one fold take about 1 GB, preprocessed data tens of GB.
LITTLE_SPACE, NO_SPACE = 20, 1


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
        elif reason := why_unreadable(folder):
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


def why_unreadable(folder: Path) -> str:
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
