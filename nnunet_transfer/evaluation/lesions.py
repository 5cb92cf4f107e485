"""Connected components of two masks and their overlaps, the basis of every lesion protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transfer.components import label_components


@dataclass(frozen=True)
class LesionOverlap:
    """Sizes of the lesions of both masks and the sparse table of their overlaps.

    Attributes
    ----------
    ref_sizes : voxels of each reference lesion, shape (n_ref,)
    pred_sizes : voxels of each predicted lesion, shape (n_pred,)
    ref_index, pred_index : 0-based lesion numbers of each pair that overlaps, shape (n_pairs,)
    shared : voxels shared by each pair, shape (n_pairs,)
    touch_ref, touch_pred : pairs that touch after dilation of the reference lesions; without dilation, the overlapping pairs
    """

    ref_sizes: NDArray[np.int64]
    pred_sizes: NDArray[np.int64]
    ref_index: NDArray[np.int64]
    pred_index: NDArray[np.int64]
    shared: NDArray[np.int64]
    touch_ref: NDArray[np.int64]
    touch_pred: NDArray[np.int64]

    @property
    def n_ref(self) -> int:
        """Number of reference lesions."""
        return len(self.ref_sizes)

    @property
    def n_pred(self) -> int:
        """Number of predicted lesions."""
        return len(self.pred_sizes)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each overlapping pair, shape (n_pairs,)."""
        union = self.ref_sizes[self.ref_index] + self.pred_sizes[self.pred_index] - self.shared
        return self.shared / union

    def ref_covered(self) -> NDArray[np.float64]:
        """Share of each reference lesion that any predicted lesion covers, shape (n_ref,)."""
        return np.bincount(self.ref_index, self.shared, self.n_ref) / self.ref_sizes

    def pred_covered(self) -> NDArray[np.float64]:
        """Share of each predicted lesion that any reference lesion covers, shape (n_pred,)."""
        return np.bincount(self.pred_index, self.shared, self.n_pred) / self.pred_sizes

    def transposed(self) -> LesionOverlap:
        """Return the table with reference and prediction swapped."""
        return LesionOverlap(
            self.pred_sizes,
            self.ref_sizes,
            self.pred_index,
            self.ref_index,
            self.shared,
            self.touch_pred,
            self.touch_ref,
        )

    def select(self, ref: NDArray[np.bool_], pred: NDArray[np.bool_]) -> LesionOverlap:
        """Return the table of the selected lesions; the others become background."""
        new_ref, new_pred = np.cumsum(ref) - 1, np.cumsum(pred) - 1
        pairs = ref[self.ref_index] & pred[self.pred_index]
        touch = ref[self.touch_ref] & pred[self.touch_pred]
        return LesionOverlap(
            self.ref_sizes[ref],
            self.pred_sizes[pred],
            new_ref[self.ref_index[pairs]],
            new_pred[self.pred_index[pairs]],
            self.shared[pairs],
            new_ref[self.touch_ref[touch]],
            new_pred[self.touch_pred[touch]],
        )


def lesion_overlap(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], *, connectivity: int, dilation: int = 0
) -> LesionOverlap:
    """Label both masks and tabulate which lesions overlap.

    Parameters
    ----------
    connectivity : 6, 18 or 26
    dilation : number of iterations by which the reference is dilated (18 neighbours) before labelling, so that
        neighbouring pieces count as one lesion; sizes are those of the undilated voxels
    """
    pred_labels, n_pred = label_components(prediction, connectivity)
    if dilation:
        # dilated lesions may extend beyond the crop
        padded = np.pad(reference, dilation)
        struct = ndimage.generate_binary_structure(reference.ndim, 2)
        grown, n_ref = label_components(ndimage.binary_dilation(padded, struct, dilation), connectivity)
        grown = grown[tuple(slice(dilation, -dilation) for _ in range(reference.ndim))]
        ref_labels = np.where(reference, grown, 0)
    else:
        ref_labels, n_ref = label_components(reference, connectivity)
        grown = ref_labels
    # lesions are small: everything below only processes their voxels
    ref_voxels, pred_voxels = np.flatnonzero(reference), np.flatnonzero(prediction)
    ref_of, pred_of = ref_labels.ravel(), pred_labels.ravel()
    ref_index, pred_index, shared = _pairs(ref_of[ref_voxels], pred_of[ref_voxels], n_pred)
    touch: tuple[NDArray[np.int64], ...] = (ref_index, pred_index, shared)
    if dilation:
        touch = _pairs(grown.ravel()[pred_voxels], pred_of[pred_voxels], n_pred)
    return LesionOverlap(
        np.bincount(ref_of[ref_voxels], minlength=n_ref + 1)[1:].astype(np.int64),
        np.bincount(pred_of[pred_voxels], minlength=n_pred + 1)[1:].astype(np.int64),
        ref_index,
        pred_index,
        shared,
        touch[0],
        touch[1],
    )


def _pairs(ref_labels: NDArray[Any], pred_labels: NDArray[Any], n_pred: int) -> tuple[NDArray[np.int64], ...]:
    """Return reference lesion, predicted lesion and shared voxels of each pair of labels that share voxels."""
    both = (ref_labels > 0) & (pred_labels > 0)
    keys = ref_labels[both].astype(np.int64) * (n_pred + 1) + pred_labels[both]
    unique, counts = np.unique(keys, return_counts=True)
    return unique // (n_pred + 1) - 1, unique % (n_pred + 1) - 1, counts.astype(np.int64)
