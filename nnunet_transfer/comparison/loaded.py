"""The source that the networks of an arm loaded, from the transfer reports of its folds instead of names."""

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
from nnunet_transfer.run_record import recorded_run

REPORT_FILE = "transfer_report.json"
#: a fact that a fold states about its training
Fact = TypeVar("Fact")
FOLD = re.compile(r"fold_(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Loaded:
    """A source as described in a transfer report.

    Attributes
    ----------
    name, sha256 : name and checksum of the source
    task, domain : task and domain in its card
    """

    name: str
    sha256: str
    task: str
    domain: str

    def __str__(self) -> str:
        return f"{self.name} (task {self.task}, domain {self.domain}, sha256 {self.sha256[:12] or 'unknown'})"


def read_loaded(fold: Path) -> Loaded | None:
    """Return the source that a fold loaded; None without a transfer report."""
    try:
        content = read_json(fold / REPORT_FILE)
        return (
            Loaded(*(str(content.get(key) or "") for key in ("source", "sha256", "task", "domain")))
            if content["source"]
            else None
        )
    except (DataError, KeyError, TypeError, AttributeError):
        return None


def loaded_by(trainer: str, folds: Mapping[int, Path], chosen: Mapping[int, str] | None = None) -> Loaded | None:
    """Return the source that all folds of a trainer loaded; None without a transfer report, or if folds choose theirs.

    Parameters
    ----------
    folds : fold -> its folder
    chosen : fold -> source that the plans choose for it, if they do

    Raises
    ------
    ComparisonError
        If the folds loaded different sources, or not those that were chosen for them.
    """
    if chosen:
        for k, folder in sorted(folds.items()):
            if (loaded := read_loaded(folder)) is not None and loaded.name != chosen.get(k):
                raise ComparisonError(
                    f"fold {k} of {trainer} loaded {loaded}, but its plans choose {chosen.get(k, 'no source')} for it; train it "
                    "again, or leave the arm out with --arms"
                )
        return None
    return _the_same_in_all(folds, read_loaded, f"{trainer} loaded different sources")


def recipe_of(trainer: str, folds: Mapping[int, Path]) -> str | None:
    """Return the recipe that the folds of a trainer were trained with; None if no fold states it.

    A name without a recipe stands for the default of the version that trained the fold, which may differ from the current one.

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
    """Return the fact that the folds agree on; `fault` describes a disagreement."""
    found = {k: stated for k, folder in sorted(folds.items()) if (stated := read(folder))}
    if len(set(found.values())) > 1:
        listed = "; ".join(f"fold {k}: {stated}" for k, stated in found.items())
        raise ComparisonError(
            f"the folds of {fault}, so they are not one cross-validation: {listed}; train the odd ones again, or leave the "
            f"arm out with --arms"
        )
    return next(iter(found.values()), None)


def _recorded_recipe(fold: Path) -> str | None:
    recipe = recorded_run(fold).get("recipe")
    return recipe if isinstance(recipe, str) and recipe in RECIPES else None


def contradiction(trainer: str, loaded: Loaded | None, planned: str | None = None) -> str | None:
    """Describe how a trainer's name or plans contradict the source that its networks loaded; None if they don't.

    Parameters
    ----------
    trainer : with or without suffixes
    planned : the source named in its plans, if any; only used for `nnUNetTrainerTransfer`
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
    """Return the task and domain in the name of a source; empty unless the source belongs to an arm."""
    domain, _, task = source.partition("_")
    return (task, domain) if source in ARMS.values() else ("", "")


def doubtful_arms(results: Path) -> Iterator[tuple[str, str]]:
    """Yield the data set and fault of each trained arm whose name, plans or folds contradict the loaded source.

    Parameters
    ----------
    results : `nnUNet_results`
    """
    for folder in sorted(results.glob("Dataset*/*__*__*")):
        trainer = folder.name.split("__")[0]
        folds = {int(m[1]): f for f in sorted(folder.glob("fold_*")) if (m := FOLD.fullmatch(f.name))}
        try:
            text = contradiction(trainer, loaded_by(trainer, folds, chosen_sources(folder)), planned_source(folder))
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


def chosen_sources(folder: Path) -> dict[int, str]:
    """Return fold -> source, if the plans of a trained arm choose one for each fold; else an empty dictionary."""
    try:
        return {
            int(fold): str(source) for fold, source in read_json(folder / "plans.json")["transfer"]["chosen"].items()
        }
    except (DataError, KeyError, TypeError, AttributeError, ValueError):
        return {}
