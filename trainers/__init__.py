"""The trainers: one file per base name; names with suffixes are built on demand.

A class built for a name such as `nnUNetTrainerScratch_50epochs` becomes an attribute of this module, so that child
processes can unpickle it: `__getattr__` builds it again there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nnunet_transfer.naming import ARMS, TrainerName, is_ours, parse_trainer_name

if TYPE_CHECKING:
    from nnunet_transfer.training.base import NamedTrainer


def get_trainer_class(name: str) -> type[NamedTrainer]:
    """Return the trainer class for a name with or without suffixes; repeated calls return the same class.

    Raises
    ------
    SettingsError
        If the name does not follow the grammar.
    """
    settings = parse_trainer_name(name)
    known = globals().get(name)
    if isinstance(known, type):
        return known
    if name == settings.base:
        return _class_of_base(name)
    base = _class_of_base(settings.base)
    built = type(name, (base,), {"__module__": __name__, "__doc__": base.__doc__, "settings": settings})
    globals()[name] = built
    return built


def _class_of_base(name: str) -> type[NamedTrainer]:
    """Return the class in the file with this name; for a registered arm without a file, build the class."""
    if name not in ARMS or name in ARMS.own:
        return getattr(importlib.import_module(f"{__name__}.{name}"), name)
    from nnunet_transfer.finetuning.trainer import FineTuningTrainer

    summary = f"Fine-tune the source {ARMS[name]}."
    built = type(
        name, (FineTuningTrainer,), {"__module__": __name__, "__doc__": summary, "settings": TrainerName(name)}
    )
    globals()[name] = built
    return built


def __getattr__(name: str) -> type:
    if not is_ours(name):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return get_trainer_class(name)
