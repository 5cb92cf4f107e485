"""The folds of a data set that came without any."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nnunet_transfer.conversion.splits import deal
from nnunet_transfer.folds import NNUNET_FOLDS, Folds, check_enough_cases
from nnunet_transfer.subjects import find_origin, manifest_folder
from nnunet_transfer.words import counted

logger = logging.getLogger(__name__)


def own_folds(dataset: str, plans: str, configuration: str) -> Folds:
    """Return folds of a preprocessed data set: nnU-Net's or, if subjects have several cases, as many by subject.

    nnU-Net splits by case. If there are fewer subjects than folds, its folds are kept, with a warning.
    """
    from nnunet_transfer._nnunet import default_splits

    folds = default_splits(dataset, plans, configuration)
    cases = sorted({case for fold in folds for case in fold["val"]})
    subject = find_origin(cases, manifest_folder(dataset)).subject
    count = len(set(subject.values()))
    if count == len(cases):
        return folds
    if count < len(folds):
        logger.warning(
            "%s has %s, too few for %d folds: a subject's cases are on both sides of a fold; "
            "write a splits_final.json into its folder in nnUNet_raw",
            dataset,
            counted(count, "subject"),
            len(folds),
        )
        return folds
    fold_of = deal(subject, {}, len(folds))
    return [
        {"train": [c for c in cases if fold_of[c] != k], "val": [c for c in cases if fold_of[c] == k]}
        for k in range(len(folds))
    ]


def validation_sizes(cases: Sequence[str], raw_dataset: Path) -> list[int]:
    """Return how many of the cases of a raw data set each of its own folds validates, before anything is preprocessed.

    Raises
    ------
    DataError
        If there are fewer cases than folds.
    """
    check_enough_cases(raw_dataset.name, len(cases))
    subject = find_origin(cases, raw_dataset).subject
    folds = range(NNUNET_FOLDS)
    if NNUNET_FOLDS <= len(set(subject.values())) < len(cases):
        sizes = Counter(deal(subject, {}, NNUNET_FOLDS).values())
        return [sizes[fold] for fold in folds]
    # nnU-Net's differ by one case at most, and the first ones are larger
    return [len(cases) // NNUNET_FOLDS + (fold < len(cases) % NNUNET_FOLDS) for fold in folds]
