"""The folds of a data set that came without any."""

from __future__ import annotations

import logging

from nnunet_transfer.conversion.splits import deal
from nnunet_transfer.folds import Folds
from nnunet_transfer.subjects import find_origin, raw_dataset
from nnunet_transfer.words import counted

logger = logging.getLogger(__name__)


def own_folds(dataset: str, plans: str, configuration: str) -> Folds:
    """Return folds of a preprocessed data set: nnU-Net's or, if subjects have several cases, as many by subject.

    nnU-Net splits by case. If there are fewer subjects than folds, its folds are kept, with a warning.
    """
    from nnunet_transfer._nnunet import default_splits

    folds = default_splits(dataset, plans, configuration)
    cases = sorted({case for fold in folds for case in fold["val"]})
    subject = find_origin(cases, raw_dataset(dataset)).subject
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
