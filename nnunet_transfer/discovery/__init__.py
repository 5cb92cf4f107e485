"""The folder that `nnUNet_extTrainer` points at; nnU-Net imports each module in it by its bare name."""

from __future__ import annotations

import os

#: nnU-Net's variable: folders with trainers, separated by `os.pathsep`, searched in this order
VARIABLE = "nnUNet_extTrainer"


def search_path(current: str = "") -> str:
    """Return a value of `nnUNet_extTrainer` with this folder first, then the other folders of `current`, each once."""
    folders = [__path__[0], *(folder for folder in current.split(os.pathsep) if folder)]
    # "/a/b/" and "/a/b" are one folder; nnU-Net would import its modules twice
    return os.pathsep.join({os.path.abspath(folder): None for folder in folders})


def is_searched(current: str) -> bool:
    """Whether nnU-Net finds this folder when `nnUNet_extTrainer` has the value `current`."""
    here = os.path.realpath(__path__[0])
    return any(os.path.realpath(folder) == here for folder in current.split(os.pathsep) if folder)
