"""The folder that `nnUNet_extTrainer` points at; nnU-Net imports each module in it by its bare name."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from nnunet_transfer.paths import nnunet_preprocessed, nnunet_results

log = logging.getLogger(__name__)

#: nnU-Net's variable: folders with trainers, separated by `os.pathsep`, searched in this order
VARIABLE = "nnUNet_extTrainer"


def search_path(current: str = "") -> str:
    """Return a value of `nnUNet_extTrainer` with this folder first, then the other folders of `current`, each once."""
    folders = [__path__[0], *(folder for folder in current.split(os.pathsep) if folder)]
    # "/a/b/" and "/a/b" are the same folder; nnU-Net would import its modules twice
    return os.pathsep.join({os.path.abspath(folder): None for folder in folders})


def is_searched(current: str) -> bool:
    """Whether nnU-Net finds this folder when `nnUNet_extTrainer` has the value `current`."""
    here = os.path.realpath(__path__[0])
    return any(os.path.realpath(folder) == here for folder in current.split(os.pathsep) if folder)


def is_searched_last(current: str | None = None) -> bool:
    """Whether no other folder comes after this one in `nnUNet_extTrainer`, by default the environment's."""
    value = os.environ.get(VARIABLE, "") if current is None else current
    folders = [folder for folder in value.split(os.pathsep) if folder.strip()]
    return bool(folders) and os.path.realpath(folders[-1]) == os.path.realpath(__path__[0])


def later_definition(name: str) -> Path | None:
    """Return the file in a folder that nnU-Net searches after this one which defines a class of this name, if any does.

    The files are read as text: nothing is imported.
    """
    folders = [Path(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder.strip()]
    here = [i for i, folder in enumerate(folders) if is_searched(str(folder))]
    definition = re.compile(rf"^class {re.escape(name)}\b", re.MULTILINE)
    for folder in folders[here[0] + 1 :] if here else ():
        for file, text in python_files(folder):
            if definition.search(text):
                return file
    return None


def python_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the Python files in and below a folder with their text, except those that can't be read.

    Editors lock a file by a link to nowhere with an ending like its own.
    """
    for file in sorted(folder.rglob("*.py")):
        try:
            text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
        except OSError:
            continue
        if text is not None:
            yield file, text


@lru_cache
def warn_unused(name: str, file: Path) -> None:
    """Say, once, that a user's class is not used because this package has a trainer of the same name."""
    log.warning("the class %s in %s is not used: nnunet_transfer has a trainer of this name; rename yours", name, file)


def check_training_folders() -> None:
    """Raise a `SettingsError` if `nnUNetv2_train` runs without the folders it needs.

    It looks for the trainer first and would end with a traceback later. Prediction from a model's folder needs neither.
    """
    if os.path.basename(sys.argv[0]) == "nnUNetv2_train":
        nnunet_preprocessed()
        nnunet_results()
