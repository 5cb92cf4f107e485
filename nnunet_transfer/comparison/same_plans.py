"""Whether the arms were trained with the same plans and folds: a difference between arms may come from these, too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_transfer.comparison.results import Run
from nnunet_transfer.configurations import lineage, with_inherited
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json
from nnunet_transfer.run_record import recorded_run
from nnunet_transfer.words import joined, verb

#: beginnings of the notices on different plans, folds and cases
DIFFERENT_PLANS = "The arms have different plans"
DIFFERENT_SPLITS = "Doubtful: splits_final.json changed between trainings"
DIFFERENT_CASES = "Doubtful: arms were trained on different cases"
#: digits of a checksum in a sentence
_SHORT = 12
#: settings of a configuration that say where its data lie and what it was derived from, not how it trains
_ADMINISTRATIVE = ("data_identifier", "inherits_from")


def plans_notices(runs: Sequence[Run]) -> list[str]:
    """Return a sentence that names the arms by their plans, if these differ in the configuration that was trained.

    Plans of one architecture that name different sources are the same plans. The plans in the result folders are compared or,
    where some can't be read, their names.
    """
    found = [configuration_of(run) for run in runs]
    known = [settings for settings in found if settings is not None]
    groups: dict[str, list[Run]] = {}
    for run, settings in zip(runs, found, strict=True):
        # a name ends in the source that the plans name
        key = run.plans.partition("_from_")[0] if len(known) < len(runs) else json.dumps(settings, sort_keys=True)
        groups.setdefault(key, []).append(run)
    if len(groups) < 2:
        return []
    differing = _differing(known) if len(known) == len(runs) else []
    which = f" ({joined(differing)} {verb(len(differing), 'differs', 'differ')})" if differing else ""
    listed = "; ".join(
        f"{', '.join(dict.fromkeys(run.plans for run in own))}: {', '.join(dict.fromkeys(run.arm.title for run in own))}"
        for own in groups.values()
    )
    return [f"{DIFFERENT_PLANS}{which}, so a difference between them may come from the plans: {listed}."]


def splits_notices(runs: Sequence[Run]) -> list[str]:
    """Return a sentence that names the trainings of a fold by the splits that they recorded, or the cases, if these differ.

    Equal validation cases don't show that the training cases were the same. With `_<N>cases`, neither do equal splits.
    """
    splits = _differing_trainings(runs, "splits_sha256")
    if splits:
        return [f"{DIFFERENT_SPLITS} of one fold, which may have seen different training cases: {splits}."]
    numbers = dict.fromkeys(run.arm.trainer.cases for run in runs)
    groups = ([run for run in runs if run.arm.trainer.cases == number] for number in numbers)
    cases = "; ".join(filter(None, (_differing_trainings(own, "cases_sha256") for own in groups)))
    return [f"{DIFFERENT_CASES} in one fold, although as many: {cases}."] if cases else []


def _differing_trainings(runs: Sequence[Run], key: str) -> str:
    """Return the trainings of folds for which not all recorded the same checksum, by checksum; empty without any."""
    recorded = [(run.trainer, fold, checksum) for run in runs for fold, checksum in _checksums(run, key).items()]
    versions: dict[int, set[str]] = {}
    for _, fold, checksum in recorded:
        versions.setdefault(fold, set()).add(checksum)
    groups: dict[str, dict[str, list[int]]] = {}
    for trainer, fold, checksum in recorded:
        if len(versions[fold]) > 1:
            groups.setdefault(checksum, {}).setdefault(trainer, []).append(fold)
    return "; ".join(
        f"{checksum[:_SHORT]}: {', '.join(f'{name} (fold {joined(folds)})' for name, folds in trainings.items())}"
        for checksum, trainings in groups.items()
    )


def splits_checksums(run: Run) -> dict[int, str]:
    """Return fold -> checksum of splits_final.json that its training recorded; folds without one are left out."""
    return _checksums(run, "splits_sha256")


def _checksums(run: Run, key: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for fold, validation in sorted(run.folds.items()):
        recorded = recorded_run(validation.parent).get(key)
        if isinstance(recorded, str):
            found[fold] = recorded
    return found


def configuration_of(run: Run) -> dict[str, Any] | None:
    """Return the settings that a run was trained with, inherited ones included; None without readable plans."""
    try:
        configurations = read_json(run.folder / "plans.json")["configurations"]
        complete = all(isinstance(configurations[name], Mapping) for name in lineage(configurations, run.configuration))
    except (DataError, KeyError, TypeError, AttributeError):
        return None
    settings = with_inherited(configurations, run.configuration)
    return {key: value for key, value in settings.items() if key not in _ADMINISTRATIVE} if complete else None


def _differing(configurations: Sequence[dict[str, Any]]) -> list[str]:
    """Return the settings that are not the same in all configurations."""
    first = configurations[0]
    keys = dict.fromkeys(key for settings in configurations for key in settings)
    return sorted(key for key in keys if any(other.get(key) != first.get(key) for other in configurations))
