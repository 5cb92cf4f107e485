"""The one way to make a data set's folder: by one process at a time, taken up after a kill, in place when complete."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.locks import locked_at_once

_STATE = "state.json"


@contextlib.contextmanager
def id_held(folder: Path) -> Iterator[None]:
    """Keep other processes off the id of a data set's folder; remove what killed ones left of other data sets of this id.

    Raises
    ------
    DataError
        If another process holds it.
    """
    number = folder.name.split("_")[0]
    with locked_at_once(folder.with_name(f".lock-{number}"), remove=True) as lock:
        if not lock:
            raise DataError(f"another process is making {number}; wait for it, or choose another id")
        _tidy_up(folder)
        yield


@contextlib.contextmanager
def collected(
    folder: Path, parts: Sequence[str], *, state: Any = None, keep: bool = False, overwrite: bool = False
) -> Iterator[Path]:
    """Give the folder where a data set is collected, with what a killed run left in it; then give it its name.

    Nothing lies under the data set's name before it is complete. The id must be held.

    Parameters
    ----------
    folder : of the data set, in `nnUNet_raw`
    parts : folders inside
    state : what the content depends on, as JSON; what was collected for another one is removed. None: the cases know
    keep : keep what was collected when data or settings turn out to be faulty, too
    overwrite : replace a data set of this name

    Raises
    ------
    DataError
        If the data set exists and is not to be replaced.
    """
    if folder.exists() and not overwrite:
        raise DataError(f"{folder} exists; remove it or choose another id")
    work = work_path(folder)
    left = read_json(work / _STATE) if (work / _STATE).is_file() else None
    if left != state and work.exists():
        shutil.rmtree(work)
    if state is not None:
        write_json(work / _STATE, state)
    for part in parts:
        (work / part).mkdir(parents=True, exist_ok=True)
    try:
        yield work
    except (DataError, SettingsError):
        if not keep:
            shutil.rmtree(work, ignore_errors=True)
        raise
    if state is not None:
        (work / _STATE).unlink()
    _move_into_place(work, folder)


def work_path(folder: Path) -> Path:
    """Return where a data set is collected before it gets its name."""
    return folder.with_name(f".making-{folder.name}")


def _tidy_up(folder: Path) -> None:
    """Remove what killed runs left of this id, but the work folder of this data set; restore one that was moved aside."""
    number = folder.name.split("_")[0]
    kind = re.compile(rf"\.(old|making)-({re.escape(number)}_.+)")
    for path in sorted(folder.parent.iterdir()):
        match = kind.fullmatch(path.name)
        if not match or path == work_path(folder):
            continue
        # killed between the two renames of a replacement: the old data set is still the one that holds
        if match[1] == "old" and not path.with_name(match[2]).exists():
            os.replace(path, path.with_name(match[2]))
        else:
            shutil.rmtree(path, ignore_errors=True)


def _move_into_place(work: Path, folder: Path) -> None:
    old = folder.with_name(f".old-{folder.name}")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(work, folder)
    shutil.rmtree(old, ignore_errors=True)
