"""Which source the networks of an arm loaded: read from the transfer reports of its folds, not from names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nnunet_transfer.errors import ComparisonError, DataError
from nnunet_transfer.files import read_json
from nnunet_transfer.naming import ARMS, TRANSFER
from nnunet_transfer.recipes import RECIPES

REPORT_FILE = "transfer_report.json"
PROVENANCE_FILE = "provenance.json"
#: what a fold states of its training
Fact = TypeVar("Fact")
FOLD = re.compile(r"fold_(\d+)")


@dataclass(frozen=True)
class Loaded:
    """A source as a transfer report names it.

    Attributes
    ----------
    name, sha256 : of the source
    task, domain : as its card has them
    """

    name: str
    sha256: str
    task: str
    domain: str

    def __str__(self) -> str:
        return f"{self.name} (task {self.task}, domain {self.domain}, sha256 {self.sha256[:12] or 'unknown'})"


def read_loaded(fold: Path) -> Loaded | None:
    """Return what a fold loaded; None where no report says so."""
    try:
        content = read_json(fold / REPORT_FILE)
        return (
            Loaded(*(str(content.get(key) or "") for key in ("source", "sha256", "task", "domain")))
            if content["source"]
            else None
        )
    except (DataError, KeyError, TypeError, AttributeError):
        return None


def loaded_by(trainer: str, folds: Mapping[int, Path]) -> Loaded | None:
    """Return the source that all folds of a trainer loaded; None where no report says so.

    Parameters
    ----------
    folds : fold -> its folder

    Raises
    ------
    ComparisonError
        If the folds loaded different sources.
    """
    return _the_same_in_all(folds, read_loaded, f"{trainer} loaded different sources")


def recipe_of(trainer: str, folds: Mapping[int, Path]) -> str | None:
    """Return the recipe that the folds of a trainer were trained with; None where no fold says so.

    A name without a recipe means the default of the version that trained, which may be another one than today's.

    Parameters
    ----------
    folds : fold -> its folder

    Raises
    ------
    ComparisonError
        If the folds were trained with different recipes.
    """
    return _the_same_in_all(folds, _recorded_recipe, f"{trainer} were trained with different recipes")


def _the_same_in_all(folds: Mapping[int, Path], read: Callable[[Path], Fact | None], fault: str) -> Fact | None:
    """Return what all folds that state something state; `fault` says whose folds differ, and in what."""
    found = {k: stated for k, folder in sorted(folds.items()) if (stated := read(folder))}
    if len(set(found.values())) > 1:
        listed = "; ".join(f"fold {k}: {stated}" for k, stated in found.items())
        raise ComparisonError(
            f"the folds of {fault}, so they are not one cross-validation: {listed}; train the odd ones again, or leave the "
            f"arm out with --arms"
        )
    return next(iter(found.values()), None)


def _recorded_recipe(fold: Path) -> str | None:
    try:
        recipe = read_json(fold / PROVENANCE_FILE)["run"]["recipe"]
    except (DataError, KeyError, TypeError):
        return None
    return recipe if isinstance(recipe, str) and recipe in RECIPES else None


def contradiction(trainer: str, loaded: Loaded | None, planned: str | None = None) -> str | None:
    """Say how a trainer's name, or its plans, contradict what its networks loaded; None if they don't.

    Parameters
    ----------
    trainer : with or without suffixes
    planned : the source that its plans name, if they do; it decides for `nnUNetTrainerTransfer` only
    """
    base = trainer.split("_")[0].split("@")[0]
    if loaded is None:
        return None
    if base in ARMS and ARMS[base] is None:
        return f"{trainer} trains from scratch by its name, but its networks loaded {loaded}"
    if base == TRANSFER and planned is not None and planned != loaded.name:
        return f"the plans of {trainer} name the source {planned}, but its networks loaded {loaded}"
    expected = ARMS.get(base) or loaded.name
    if expected not in ARMS.values():
        return None
    task, domain = stated(expected)
    if (loaded.task, loaded.domain) == (task, domain):
        return None
    name = f"{trainer} says" if base in ARMS else f"the source {expected} of {trainer} says"
    return f"{name} task {task}, domain {domain} by its name, but its networks loaded {loaded}"


def stated(source: str) -> tuple[str, str]:
    """Return task and domain that the name of a source states; empty for names other than those of the arms' sources."""
    domain, _, task = source.partition("_")
    return (task, domain) if source in ARMS.values() else ("", "")


def doubtful_arms(results: Path) -> Iterator[tuple[str, str]]:
    """Yield data set and fault of each trained arm whose name, plans or folds contradict what its networks loaded.

    Parameters
    ----------
    results : `nnUNet_results`
    """
    for folder in sorted(results.glob("Dataset*/*__*__*")):
        trainer = folder.name.split("__")[0]
        folds = {int(m[1]): f for f in sorted(folder.glob("fold_*")) if (m := FOLD.fullmatch(f.name))}
        try:
            text = contradiction(trainer, loaded_by(trainer, folds), planned_source(folder))
        except ComparisonError as error:
            text = str(error)
        if text:
            yield folder.parent.name, text


def planned_source(folder: Path) -> str | None:
    """Return the source that the plans of a trained arm name; None if they name none."""
    try:
        return str(read_json(folder / "plans.json")["transfer"]["source"])
    except (DataError, KeyError, TypeError):
        return None
