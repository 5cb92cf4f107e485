"""The trainers: one file per base name; names with suffixes are built on demand.

A class built for a name such as `nnUNetTrainerScratch_50epochs` becomes an attribute of this module, so that it
unpickles in a child process, where `__getattr__` builds it again.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nnunet_transfer.naming import is_ours, parse_trainer_name

if TYPE_CHECKING:
    from nnunet_transfer.training.base import NamedTrainer


def get_trainer_class(name: str) -> type[NamedTrainer]:
    """Return the trainer class of a name, with or without suffixes; the same class at each call.

    Raises
    ------
    SettingsError
        If the name does not follow the grammar.
    """
    settings = parse_trainer_name(name)
    known = globals().get(name)
    if isinstance(known, type):
        return known
    base = getattr(importlib.import_module(f"{__name__}.{settings.base}"), settings.base)
    if name == settings.base:
        return base
    built = type(name, (base,), {"__module__": __name__, "__doc__": base.__doc__, "settings": settings})
    globals()[name] = built
    return built


def __getattr__(name: str) -> type:
    if not is_ours(name):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return get_trainer_class(name)
