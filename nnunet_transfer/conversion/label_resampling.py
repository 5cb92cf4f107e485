"""Resample labels to another grid, and count what is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.components import label_components
from nnunet_transfer.conversion.geometry import Affine, sampled
from nnunet_transfer.conversion.labels import CONNECTIVITY

#: bounds of the number of sampling positions per target voxel and axis, which are half a source voxel apart
_FEWEST, _MOST = 2, 10


@dataclass(frozen=True)
class Resampled:
    """A label on another grid.

    Attributes
    ----------
    data : the label, with the original dtype
    components : number of connected components of a binary label before resampling; None for labels with several classes
    lost : number of components without a voxel in the new label
    """

    data: NDArray[Any]
    components: int | None = None
    lost: int = 0


def resample_nearest(
    label: NDArray[Any], affine: Affine, shape: Sequence[int], target: Affine, binary: bool
) -> Resampled:
    """Resample a label with nearest-neighbour interpolation; 0 outside.

    Parameters
    ----------
    label : shape (x, y, z)
    affine, target : voxel indices -> mm, for the label and the new grid, shape (4, 4)
    shape : shape of the new grid
    binary : whether to count connected components
    """
    matrix = np.linalg.inv(affine) @ target
    if not binary:
        return Resampled(sampled(label, matrix, shape))
    parts, count = label_components(np.asfortranarray(label == 1), CONNECTIVITY)
    found = sampled(parts, matrix, shape)
    return Resampled((found > 0).astype(label.dtype), count, count - np.unique(found[found > 0]).size)


def resample_by_coverage(
    label: NDArray[Any], affine: Affine, shape: Sequence[int], target: Affine, binary: bool
) -> Resampled:
    """Give each voxel of the target the label that covers most of it.

    Each voxel is sampled at several positions. A binary label needs half of them. A component that would vanish keeps the
    voxel that it covers most. The parameters are those of `resample_nearest`.
    """
    matrix = np.linalg.inv(affine) @ target
    samples = _positions(matrix)
    if not binary:
        return Resampled(_majority(label, matrix, shape, samples))
    parts, count = label_components(np.asfortranarray(label == 1), CONNECTIVITY)
    out = np.zeros(tuple(shape), label.dtype)
    box = _target_box(label, matrix, shape)
    if box is None:
        return Resampled(out, count, count)
    inside = out[box]
    covered = np.zeros(inside.shape, np.uint16)
    for found in _sampled(parts, matrix, box, samples):
        covered += found > 0
    inside[2 * covered.astype(np.uint32) >= len(samples)] = 1
    kept: set[int] = set()
    for found in _sampled(parts, matrix, box, samples):
        kept.update(np.unique(found[(inside > 0) & (found > 0)]).tolist())
    lost = _keep_vanished(set(range(1, count + 1)) - kept, parts, matrix, box, samples, inside)
    return Resampled(out, count, lost)


def _keep_vanished(
    vanished: set[int],
    parts: NDArray[Any],
    matrix: Affine,
    box: tuple[slice, ...],
    samples: Sequence[NDArray[np.float64]],
    inside: NDArray[Any],
) -> int:
    """Set the voxel that each vanished component covers most; return the number of components outside the grid."""
    if not vanished:
        return 0
    coverage: dict[tuple[int, int], int] = {}
    wanted = np.array(sorted(vanished))
    for found in _sampled(parts, matrix, box, samples):
        places = np.flatnonzero(np.isin(found, wanted))
        for place, part in zip(places.tolist(), found.reshape(-1)[places].tolist(), strict=True):
            coverage[part, place] = coverage.get((part, place), 0) + 1
    best: dict[int, tuple[int, int]] = {}
    for (part, place), hits in coverage.items():
        best[part] = max(best.get(part, (0, 0)), (hits, -place))
    for _, place in best.values():
        inside.flat[-place] = 1
    return len(vanished) - len(best)


def _majority(
    label: NDArray[Any], matrix: Affine, shape: Sequence[int], samples: Sequence[NDArray[np.float64]]
) -> NDArray[Any]:
    out = np.zeros(tuple(shape), label.dtype)
    best = np.zeros(tuple(shape), np.uint16)
    rest = np.full(tuple(shape), len(samples), np.int32)
    for value in np.unique(label[label > 0]):
        mask = (label == value).view(np.uint8)
        box = _target_box(mask, matrix, shape)
        if box is None:
            continue
        covered = np.zeros(out[box].shape, np.uint16)
        for found in _sampled(mask, matrix, box, samples):
            covered += found
        rest[box] -= covered
        better = covered > best[box]
        best[box][better] = covered[better]
        out[box][better] = value
    out[rest > best] = 0
    return out


def _positions(matrix: Affine) -> list[NDArray[np.float64]]:
    """Return the sampling positions in a target voxel, as offsets from its centre in voxels."""
    steps = np.abs(matrix[:3, :3]).max(axis=0)
    axes = []
    for step in steps:
        number = int(np.clip(np.ceil(2 * step - 1e-6), _FEWEST, _MOST))
        axes.append((np.arange(number) + 0.5) / number - 0.5)
    return [np.array(position) for position in itertools.product(*axes)]


def _target_box(label: NDArray[Any], matrix: Affine, shape: Sequence[int]) -> tuple[slice, ...] | None:
    """Return the box of the target that the foreground can reach; None if it lies outside."""
    found = np.nonzero(label)
    if not found[0].size:
        return None
    ends = [(int(axis.min()) - 1, int(axis.max()) + 1) for axis in found]
    corners = np.array([*itertools.product(*ends)], dtype=np.float64)
    inverse = np.linalg.inv(matrix)
    places = corners @ inverse[:3, :3].T + inverse[:3, 3]
    low = np.maximum(np.floor(places.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(places.max(axis=0)).astype(int) + 2, shape)
    return None if (low >= high).any() else tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _sampled(
    data: NDArray[Any], matrix: Affine, box: tuple[slice, ...], samples: Sequence[NDArray[np.float64]]
) -> Iterator[NDArray[Any]]:
    """Yield the values of the nearest voxels at each position within the voxels of a box of the target."""
    start = np.array([part.start for part in box], dtype=np.float64)
    shape = [part.stop - part.start for part in box]
    for sample in samples:
        moved = matrix.copy()
        moved[:3, 3] += matrix[:3, :3] @ (start + sample)
        yield sampled(data, moved, shape)
