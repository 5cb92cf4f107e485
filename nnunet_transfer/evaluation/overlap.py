"""Overlap metrics from one confusion matrix per case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.evaluation.masks import LARGEST_LABEL


@dataclass(frozen=True)
class Foreground:
    """Two masks cropped to the bounding box of their joint foreground.

    Attributes
    ----------
    reference, prediction : labels, same shape; empty arrays if both masks are empty
    shape : shape of the uncropped masks
    start : index of the crop's first voxel in the uncropped array
    """

    reference: NDArray[Any]
    prediction: NDArray[Any]
    shape: tuple[int, ...]
    start: tuple[int, ...]


def crop_to_foreground(reference: NDArray[Any], prediction: NDArray[Any]) -> Foreground:
    """Crop two masks of the same shape to the box around the union of their foregrounds."""
    union = (reference != 0) | (prediction != 0)
    box = bounding_box(union)
    return Foreground(reference[box], prediction[box], reference.shape, tuple(s.start for s in box))


def bounding_box(mask: NDArray[np.bool_], margin: int = 0) -> tuple[slice, ...]:
    """Return the slices of the smallest box around `mask`, widened by `margin`; empty slices if nothing is set."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        if not len(filled):
            return (slice(0, 0),) * mask.ndim
        box.append(slice(max(0, int(filled[0]) - margin), min(mask.shape[axis], int(filled[-1]) + 1 + margin)))
    return tuple(box)


@dataclass(frozen=True)
class Confusion:
    """Counts of voxels by reference label and predicted label.

    Attributes
    ----------
    values : all label values that occur, ascending, including 0; shape (k,)
    counts : voxels with reference label values[i] and predicted label values[j]; shape (k, k)
    """

    values: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def reference_values(self) -> set[int]:
        """Labels that occur in the reference."""
        return set(self.values[self.counts.sum(1) > 0].tolist())

    @property
    def predicted_values(self) -> set[int]:
        """Labels that occur in the prediction."""
        return set(self.values[self.counts.sum(0) > 0].tolist())


def confusion(foreground: Foreground) -> Confusion:
    """Count voxels by reference and predicted label."""
    voxels = np.flatnonzero((foreground.reference != 0) | (foreground.prediction != 0))
    reference = foreground.reference.ravel()[voxels].astype(np.intp)
    prediction = foreground.prediction.ravel()[voxels].astype(np.intp)
    present = np.zeros(LARGEST_LABEL + 1, bool)
    present[0] = True
    present[reference] = True
    present[prediction] = True
    values = np.flatnonzero(present)
    position = np.cumsum(present) - 1
    k = len(values)
    counts = np.bincount(position[reference] * k + position[prediction], minlength=k * k).reshape(k, k)
    counts[0, 0] += int(np.prod(foreground.shape)) - len(voxels)
    return Confusion(values.astype(np.int64), counts.astype(np.int64))


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one class in one case: true positive, false positive, false negative."""

    tp: int
    fp: int
    fn: int

    @property
    def n_ref(self) -> int:
        """Voxels of the reference."""
        return self.tp + self.fn

    @property
    def n_pred(self) -> int:
        """Voxels of the prediction."""
        return self.tp + self.fp

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN if both masks are empty, as nnU-Net has it."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else float("nan")

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN); NaN if both masks are empty, as nnU-Net has it."""
        total = self.tp + self.fp + self.fn
        return self.tp / total if total else float("nan")


def overlap(table: Confusion, values: tuple[int, ...], ignore: frozenset[int] = frozenset()) -> Overlap:
    """Return the counts of one class.

    Parameters
    ----------
    values : label values that make up the class (several for one of nnU-Net's regions)
    ignore : reference labels whose voxels are not scored
    """
    inside = np.isin(table.values, values)
    counted = ~np.isin(table.values, tuple(ignore))
    tp = table.counts[np.ix_(inside & counted, inside)].sum()
    fp = table.counts[np.ix_(~inside & counted, inside)].sum()
    fn = table.counts[np.ix_(inside & counted, ~inside)].sum()
    return Overlap(int(tp), int(fp), int(fn))
