"""The data sets that can be converted, including those that users describe."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

from nnunet_transfer.conversion.description import DatasetDescription
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.registration import Registry, did_you_mean

#: folder of descriptions; its modules are found automatically
DESCRIPTIONS = "nnunet_transfer.dataset_conversion"


def _check_description(name: str, description: DatasetDescription) -> None:
    if not isinstance(description, DatasetDescription) or description.name != name:
        raise SettingsError(f"data set {name}: register a DatasetDescription with this name")


#: descriptions registered by a program or an installed package
ADDED: Registry[DatasetDescription] = Registry("datasets", {}, _check_description)


def all_descriptions() -> dict[str, DatasetDescription]:
    """Return name -> description, sorted by name: those in the modules of `dataset_conversion`, and registered ones."""
    datasets = importlib.import_module(DESCRIPTIONS)
    modules = sorted(module.name for module in pkgutil.iter_modules(datasets.__path__) if module.name[0] != "_")
    found = [
        description
        for name in modules
        for description in vars(importlib.import_module(f"{datasets.__name__}.{name}")).values()
        if isinstance(description, DatasetDescription)
    ]
    found += [ADDED[name] for name in ADDED if name not in {description.name for description in found}]
    return {description.name: description for description in sorted(found, key=lambda d: d.name)}


def get_description(name: str) -> DatasetDescription:
    """Return the description with this name, or the one in this Python file.

    Raises
    ------
    SettingsError
        If it doesn't exist, or the file can't be used.
    """
    if name.endswith(".py"):
        return _from_file(Path(name).expanduser())
    known = all_descriptions()
    if name in known:
        return known[name]
    guess = did_you_mean(name, known, most=3, otherwise="see `nnunet_transfer convert --list`")
    raise SettingsError(f"unknown data set {name}; {guess}")


def _from_file(path: Path) -> DatasetDescription:
    # of a name that no other module has, whatever the file is called
    spec = importlib.util.spec_from_file_location(f"nnunet_transfer description {path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SettingsError(f"{path} is not a Python file; give the file that holds your DatasetDescription")
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up there, and so do worker processes that get objects of the file's classes
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SettingsError(f"{path} can't be used ({type(error).__name__}: {error}); correct it") from error
    found = [value for value in vars(module).values() if isinstance(value, DatasetDescription)]
    if len(found) != 1:
        raise SettingsError(f"{path} holds {len(found)} descriptions; it must hold exactly one DatasetDescription")
    return found[0]
