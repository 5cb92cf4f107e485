"""The folds of a pool: fold k of the pool holds fold k of every set."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from nnunet_transfer.dataset_conversion.install import FILE_NAME, check_form
from nnunet_transfer.dataset_conversion.pooled_set import PooledSet
from nnunet_transfer.dataset_conversion.splits import Folds, deal
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.files import read_json
from nnunet_transfer.paths import nnunet_preprocessed
from nnunet_transfer.subjects import find_origin

#: as nnU-Net's own, for sets of which none has folds
DEFAULT = 5


def pooled_folds(sets: Sequence[PooledSet]) -> Folds:
    """Join the sets' own folds; a set without any is dealt into as many, subjects kept together.

    Raises
    ------
    DataError
        If the sets have different numbers of folds, or folds with cases that a set doesn't have.
    """
    own = {pooled.dataset: _own_folds(pooled) for pooled in sets}
    counts = {dataset: len(folds) for dataset, folds in own.items() if folds}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{dataset} {count}" for dataset, count in counts.items())
        raise DataError(f"the sets have different numbers of folds ({listed}); give them equally many, or remove one's")
    number = next(iter(counts.values()), DEFAULT)
    folds: Folds = [{"train": [], "val": []} for _ in range(number)]
    for pooled in sets:
        for fold, cases in zip(folds, own[pooled.dataset] or _dealt(pooled, number), strict=True):
            for role in fold:
                fold[role] += [pooled.pooled_name(case) for case in cases[role]]
    return folds


def _own_folds(pooled: PooledSet) -> Folds:
    """Return the folds that nnU-Net trains the set on, or those of its conversion, or none."""
    candidates = [pooled.folder / FILE_NAME]
    with contextlib.suppress(SettingsError):  # pooling needs the raw folder only
        candidates.insert(0, nnunet_preprocessed() / pooled.dataset / FILE_NAME)
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        return []
    folds = read_json(path)
    check_form(folds, path)
    strangers = {case for fold in folds for role in ("train", "val") for case in fold[role]} - pooled.cases.keys()
    if strangers:
        raise DataError(f"{path} names the case {min(strangers)}, which {pooled.folder} doesn't have; mend the folds")
    return folds


def _dealt(pooled: PooledSet, number: int) -> Folds:
    subject = find_origin(pooled.cases, pooled.folder).subject
    if len(set(subject.values())) < number:
        raise DataError(
            f"{pooled.dataset} has no folds and too few subjects ({len(set(subject.values()))}) to make {number}; "
            f"give it a {FILE_NAME}"
        )
    fold_of = deal(subject, {}, number)
    return [
        {"train": [c for c in pooled.cases if fold_of[c] != k], "val": [c for c in pooled.cases if fold_of[c] == k]}
        for k in range(number)
    ]
