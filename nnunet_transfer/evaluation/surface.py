"""Distances between the surfaces of two masks, in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree


@dataclass(frozen=True)
class SurfaceScores:
    """Surface metrics of one class in one case.

    Attributes
    ----------
    hd95_mm : the larger of the two directed 95th percentiles of the surface distances; the image's diagonal
        if one mask is empty; NaN if both are
    nsd : share of both surfaces within the tolerance of the other surface; 0 if one mask is empty; NaN if both are

    References
    ----------
    Maier-Hein et al., Nature Methods 2024, 21:195 (HD95, and the penalty for an empty mask);
    Nikolov et al., J Med Internet Res 2021, 23:e26151 (NSD, here with surface voxels of equal weight).
    """

    hd95_mm: float
    nsd: float


def surface_points(
    mask: NDArray[np.bool_], spacing: tuple[float, ...], image_shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the positions in mm, shape (n, mask.ndim), of the voxels of `mask` with a face outside it.

    Positions outside the array are outside the mask. An axis of length 1 has no faces: a single slice is a 2D image.

    Parameters
    ----------
    mask : may be a crop of the image, on all of which the mask is known
    image_shape : shape of the whole image
    """
    inner = mask.copy()
    for axis, length in enumerate(image_shape):
        if length == 1:
            continue
        before = [slice(None)] * mask.ndim
        after = [slice(None)] * mask.ndim
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        inner[tuple(after)] &= mask[tuple(before)]
        inner[tuple(before)] &= mask[tuple(after)]
        for end in (slice(0, 1), slice(-1, None)):
            edge = [slice(None)] * mask.ndim
            edge[axis] = end
            inner[tuple(edge)] = False
    return np.argwhere(mask & ~inner) * np.asarray(spacing)


def surface_scores(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing: tuple[float, ...],
    *,
    tolerance_mm: float,
    diagonal_mm: float,
    image_shape: tuple[int, ...] | None = None,
) -> SurfaceScores:
    """Score the surfaces of two masks of the same shape.

    Parameters
    ----------
    spacing : voxel size in mm, in the arrays' axis order
    tolerance_mm : largest distance at which a surface voxel counts as correct for the NSD
    diagonal_mm : diagonal of the whole image, the HD95 if one mask is empty
    image_shape : shape of the whole image, if the masks are crops; scores don't depend on the crop
    """
    shape = image_shape or reference.shape
    ref_points = surface_points(reference, spacing, shape)
    pred_points = surface_points(prediction, spacing, shape)
    if not len(ref_points) and not len(pred_points):
        return SurfaceScores(float("nan"), float("nan"))
    if not len(ref_points) or not len(pred_points):
        return SurfaceScores(diagonal_mm, 0.0)
    to_pred = KDTree(pred_points).query(ref_points)[0]
    to_ref = KDTree(ref_points).query(pred_points)[0]
    hd95 = max(np.percentile(to_pred, 95), np.percentile(to_ref, 95))
    # coordinates are products of floats: rounding must not exclude distances that equal the tolerance
    limit = tolerance_mm * (1 + 1e-9)
    within = np.count_nonzero(to_pred <= limit) + np.count_nonzero(to_ref <= limit)
    return SurfaceScores(float(hd95), within / (len(to_pred) + len(to_ref)))
