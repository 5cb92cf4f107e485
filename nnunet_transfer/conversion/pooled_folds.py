"""The folds of a pool: fold k consists of fold k of every set."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from nnunet_transfer.conversion.install import FILE_NAME, check_form
from nnunet_transfer.conversion.pooled_set import PooledSet
from nnunet_transfer.conversion.splits import Folds, deal
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.files import read_json
from nnunet_transfer.paths import nnunet_preprocessed

logger = logging.getLogger(__name__)

#: number of folds if no set has folds, as in nnU-Net
DEFAULT = 5


def pooled_folds(sets: Sequence[PooledSet]) -> Folds:
    """Join the folds of the sets; a set without folds is split into the same number, keeping subjects together.

    If a shared subject would be on both sides of a fold, all cases are split again.

    Raises
    ------
    DataError
        If the sets have different numbers of folds, or folds contain unknown cases.
    """
    own = {pooled.dataset: _own_folds(pooled) for pooled in sets}
    counts = {dataset: len(folds) for dataset, folds in own.items() if folds}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{dataset} {count}" for dataset, count in counts.items())
        raise DataError(
            f"the sets have different numbers of folds ({listed}); give them the same number, or remove the folds of one"
        )
    number = next(iter(counts.values()), DEFAULT)
    folds: Folds = [{"train": [], "val": []} for _ in range(number)]
    for pooled in sets:
        for fold, cases in zip(folds, own[pooled.dataset] or _dealt([pooled], number), strict=True):
            for role in fold:
                fold[role] += [pooled.pooled_name(case) for case in cases[role]]
    if subject := _on_both_sides(folds, sets):
        logger.warning("subject %s would be on both sides of a fold: the folds of all sets are made again", subject)
        return _dealt(sets, number, pooled_names=True)
    return folds


def _on_both_sides(folds: Folds, sets: Sequence[PooledSet]) -> str:
    """Return a subject that is on both sides of a fold; empty if there is none."""
    subject = {pooled.pooled_name(case): name for pooled in sets for case, name in pooled.subjects.items()}
    both = [{subject[c] for c in fold["train"]} & {subject[c] for c in fold["val"]} for fold in folds]
    return min(set.union(*both), default="")


def _own_folds(pooled: PooledSet) -> Folds:
    """Return the folds that nnU-Net uses for the set, those of its conversion, or none."""
    candidates = [pooled.folder / FILE_NAME]
    with contextlib.suppress(SettingsError):  # pooling only needs the raw folder
        candidates.insert(0, nnunet_preprocessed() / pooled.dataset / FILE_NAME)
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        return []
    folds = read_json(path)
    check_form(folds, path)
    strangers = {case for fold in folds for role in ("train", "val") for case in fold[role]} - pooled.cases.keys()
    if strangers:
        raise DataError(f"{path} names the case {min(strangers)}, which {pooled.folder} doesn't have; fix the folds")
    return folds


def _dealt(sets: Sequence[PooledSet], number: int, pooled_names: bool = False) -> Folds:
    """Split the cases of some sets into folds with similar shares of each set.

    Parameters
    ----------
    pooled_names : whether the folds contain the names of cases in the pool instead of those in their set
    """
    subject, stratum = {}, {}
    for pooled in sets:
        for case in pooled.cases:
            name = pooled.pooled_name(case) if pooled_names else case
            subject[name], stratum[name] = pooled.subjects[case], (pooled.name,)
    found = len(set(subject.values()))
    if found < number:
        raise DataError(
            f"{sets[0].dataset} has no folds and too few subjects ({found}) to make {number}; give it a {FILE_NAME}"
        )
    fold_of = deal(subject, stratum, number)
    return [
        {"train": [c for c in subject if fold_of[c] != k], "val": [c for c in subject if fold_of[c] == k]}
        for k in range(number)
    ]
