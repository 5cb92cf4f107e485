"""Turn masks into nnU-Net labels and measure them. Thresholds come before every cast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.conversion.description import LabelRule
from nnunet_transfer.errors import DataError

#: a stored label may be off a whole number by this much: ATLAS has 0.9999999776, some tools write 0.999
WHOLE_TOLERANCE = 0.01
#: lesions are counted with 26 neighbours in 3D, 8 in 2D
CONNECTIVITY = 26
_BLOCK = 1 << 20


def binarised(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 1 where the mask is above zero, else 0 (also for NaN)."""
    return (mask > 0).view(np.uint8)


def combined(masks: Sequence[NDArray[np.uint8]], rule: str) -> NDArray[np.uint8]:
    """Make one binary mask of several raters' by "union", "intersection" or "majority" (more than half of them)."""
    if len(masks) == 1:
        return masks[0]
    votes = np.zeros_like(masks[0])
    for mask in masks:
        votes += mask
    needed = {"union": 1, "intersection": len(masks), "majority": len(masks) // 2 + 1}[rule]
    return (votes >= needed).view(np.uint8)


def values_in(mask: NDArray[Any], limit: int = 1000) -> list[float]:
    """Return the distinct values of a mask, sorted; at most `limit` of them.

    NaN counts as one value.
    """
    found: set[float] = set()
    for block in _blocks(mask):
        first, last = block.min(), block.max()
        found.update([float(first)] if first == last else np.unique(_outliers(block, found)).tolist())
        if len(found) > limit:
            break
    return sorted(found)[:limit]


def _outliers(block: NDArray[Any], known: set[float]) -> NDArray[Any]:
    """Return the voxels that hold none of the first known values: sorting the rest is far faster."""
    for value in sorted(known)[:4]:
        block = block[block != value]
    return block


def _blocks(mask: NDArray[Any]) -> list[NDArray[Any]]:
    flat = mask.ravel(order="K")
    return [flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK)]


def relabelled(mask: NDArray[Any], rule: LabelRule, name: str) -> NDArray[np.uint8 | np.uint16]:
    """Give each voxel the label of its value.

    Raises
    ------
    DataError
        If a value is not a whole number, or is named nowhere in the rule.
    """
    return with_values(mask, rule.values(), name)


def with_values(mask: NDArray[Any], table: dict[int, int], name: str) -> NDArray[np.uint8 | np.uint16]:
    """Give each voxel the label that the table has for its value; errors as `relabelled`."""
    whole = _whole(mask, name)
    low, high = int(whole.min()), int(whole.max())
    known = np.array(sorted(table), dtype=np.int64)
    if low < min(0, known[0]) or high > max(known[-1], 0):
        _refuse_unknown(whole, table, name)
    dtype = np.uint8 if max(table.values()) < 256 else np.uint16
    offset = min(0, int(known[0]))
    lookup = np.full(int(known[-1]) - offset + 1, -1, dtype=np.int32)
    lookup[known - offset] = [table[int(value)] for value in known]
    result = np.empty(mask.shape, dtype, order="F" if mask.flags.f_contiguous else "C")
    # slab by slab: fancy indexing makes 8-byte indices of every voxel
    for source, target in zip(_slabs(whole), _slabs(result), strict=True):
        labels = lookup[source.astype(np.intp) - offset]
        if (labels < 0).any():
            _refuse_unknown(whole, table, name)
        target[...] = labels
    return result


def _slabs(array: NDArray[Any]) -> list[NDArray[Any]]:
    step = max(1, _BLOCK // max(1, array[..., 0].size))
    return [array[..., start : start + step] for start in range(0, array.shape[-1], step)]


def _whole(mask: NDArray[Any], name: str) -> NDArray[Any]:
    if mask.dtype.kind in "iub":
        return mask
    if not np.isfinite(mask).all():
        raise DataError(f"{name} holds values that are no numbers")
    rounded = np.rint(mask).astype(np.int32)
    if np.abs(mask - rounded).max() > WHOLE_TOLERANCE:
        raise DataError(f"{name} holds values that are no whole numbers, such as labels blurred by resampling")
    return rounded


def _refuse_unknown(whole: NDArray[Any], table: dict[int, int], name: str) -> None:
    unknown = [int(value) for value in values_in(whole) if int(value) not in table]
    shown = ", ".join(map(str, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    raise DataError(f"{name} holds labels that aren't in the data set's table: {shown}")


def lesion_load(label: NDArray[Any]) -> tuple[int, int]:
    """Return the number of voxels and of connected components (see `CONNECTIVITY`) of a binary label."""
    voxels = int(np.count_nonzero(label))
    if not voxels:
        return 0, 0
    part = np.asfortranarray(label[_bounding_box(label)])
    neighbours: Any = CONNECTIVITY if part.ndim == 3 else 8  # typed as literals there
    return voxels, int(cc3d.connected_components(part, connectivity=neighbours, return_N=True)[1])


def _bounding_box(label: NDArray[Any]) -> tuple[slice, ...]:
    box = [slice(None)] * label.ndim
    for axis in reversed(range(label.ndim)):  # the slowest first: each axis makes the rest smaller
        others = tuple(i for i in range(label.ndim) if i != axis)
        found = np.flatnonzero(label[tuple(box)].any(axis=others))
        box[axis] = slice(int(found[0]), int(found[-1]) + 1)
    return tuple(box)
