"""Convert masks to nnU-Net labels and measure them. Thresholds are applied before casting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.components import label_components
from nnunet_transfer.conversion.description import LabelRule
from nnunet_transfer.errors import DataError

#: tolerance of stored labels from whole numbers: ATLAS has 0.9999999776, some tools write 0.999
WHOLE_TOLERANCE = 0.01
#: larger whole numbers are not exact as floating point
LARGEST_WHOLE = 1 << 53
#: levels of a binary mask that differ by at most this share of the largest count as one: rounding, or a conversion to
#: 8 bits and back, gives 252.99 and 254.99; interpolation gives any value between 0 and 1
LEVEL_TOLERANCE = 0.02
#: values below this share of the largest count as 0
ZERO_TOLERANCE = 1e-3
#: masks with a larger volume in ml show a whole brain instead of lesions
LARGEST_LESION_ML = 800.0
#: lesions are counted with 26 neighbours in 3D, 8 in 2D
CONNECTIVITY = 26
_BLOCK = 1 << 20
#: more values than this are not a list of labels
_MAX_VALUES = 1000
_SHOWN = 5


@dataclass(frozen=True)
class Level:
    """Foreground of a binary mask: `low <= value <= high`; `note` describes the value."""

    low: float
    high: float
    note: str = ""


_ADVICE = "correct it, or give --threshold T to take what lies above T as foreground"


def find_level(counts: Mapping[float, int], dtype: np.dtype[Any], name: str, advice: str = _ADVICE) -> Level:
    """Find the single non-zero level of a binary mask.

    Parameters
    ----------
    counts : value -> voxels, from `value_counts`
    dtype : dtype of the stored mask; an 8-bit -1 is 255 stored as a signed number
    advice : what to do about a mask that is refused

    Raises
    ------
    DataError
        If the values don't form one level, as in an interpolated mask, a probability map, a label map or an image.
    """
    if any(np.isinf(v) for v in counts):
        raise DataError(f"{name} holds infinite values; {advice}")
    largest = max((abs(v) for v in counts if np.isfinite(v)), default=0.0)
    values = sorted(v for v in counts if np.isfinite(v) and abs(v) > ZERO_TOLERANCE * largest)
    if not values:
        return Level(np.inf, np.inf)
    low, high = values[0], values[-1]
    if is_signed(values, dtype):
        return Level(-1, -1, f"-1 taken as {2 ** (8 * dtype.itemsize) - 1} stored as a signed number")
    if low <= 0 or low < (1 - LEVEL_TOLERANCE) * high or len(counts) >= _MAX_VALUES:
        raise DataError(f"{name} is not a binary mask: {_describe(values, counts)}; {advice}")
    if low == high == 1:
        return Level(low, high)
    return Level(low, high, f"{_span(low, high)} taken as 1")


def is_signed(values: Iterable[float], dtype: np.dtype[Any]) -> bool:
    """Whether a mask's only level is the largest unsigned number, such as 255, stored as the signed number -1."""
    return dtype.kind == "i" and {value for value in values if value} == {-1}


def _describe(values: Sequence[float], counts: Mapping[float, int]) -> str:
    number = f"{_MAX_VALUES} or more" if len(counts) >= _MAX_VALUES else str(len(values))
    shown = ", ".join(f"{value:.6g}" for value in values[:_SHOWN]) + (" ..." if len(values) > _SHOWN else "")
    kind = ""
    if len(values) > _SHOWN and values[0] >= 0 and values[-1] <= 1:
        kind = ", like a probability map or an interpolated mask"
    elif len(values) > _SHOWN:
        kind = ", like an interpolated mask or an image"
    return f"{number} values beside 0 from {values[0]:.6g} to {values[-1]:.6g} ({shown}){kind}"


def _span(low: float, high: float) -> str:
    return f"{low:.10g}" if low == high else f"{low:.10g} to {high:.10g}"


def binarised(mask: NDArray[Any], level: Level) -> NDArray[np.uint8]:
    """Return 1 where the mask is on the level, otherwise 0 (also for NaN)."""
    if level.low == level.high == np.inf:
        return np.zeros_like(mask, np.uint8)
    if level.high < 0:
        return (mask < 0).view(np.uint8)
    # values between 0 and the level are rounding of 0 (see `find_level`)
    return (mask >= mask.dtype.type(level.low)).view(np.uint8)


def above(mask: NDArray[Any], threshold: float) -> NDArray[np.uint8]:
    """Return 1 where the mask is above a threshold, otherwise 0 (also for NaN)."""
    return (mask > threshold).view(np.uint8)


def is_for_smaller_values(threshold: float, values: Iterable[float]) -> bool:
    """Whether a threshold looks as if meant for masks from 0 to 1, but a mask's values go beyond 1 in several levels."""
    levels = [value for value in values if value > threshold]
    return bool(levels) and threshold <= 1 < (1 - LEVEL_TOLERANCE) * max(levels) and min(levels) <= max(levels) / 2


def refuse_whole_brain(voxels: int, voxel_ml: float, content: int, largest_share: float) -> None:
    """Refuse a mask that is too large for lesions.

    Parameters
    ----------
    voxels : number of voxels of the mask
    voxel_ml : volume of a voxel in ml
    content : number of voxels of the first image above its minimum
    largest_share : largest allowed share of the image's content; 1 allows everything

    Raises
    ------
    DataError
        If the mask covers more than `LARGEST_LESION_ML` or `largest_share` of the image.
    """
    if largest_share >= 1:
        return
    advice = (
        "is it a brain mask, or the image itself? If it is right, describe the data set with "
        "LabelRule(..., largest_share=1)"
    )
    if voxels * voxel_ml > LARGEST_LESION_ML:
        raise DataError(f"the mask covers {voxels * voxel_ml:.0f} ml; {advice}")
    if voxels > largest_share * content:
        raise DataError(f"the mask covers {voxels / max(content, 1):.0%} of the image's content; {advice}")


def combined(masks: Sequence[NDArray[np.uint8]], rule: str) -> NDArray[np.uint8]:
    """Combine the binary masks of several raters by "union", "intersection" or "majority" (more than half of the raters)."""
    if len(masks) == 1:
        return masks[0]
    votes = np.zeros_like(masks[0])
    for mask in masks:
        votes += mask
    needed = {"union": 1, "intersection": len(masks), "majority": len(masks) // 2 + 1}[rule]
    return (votes >= needed).view(np.uint8)


def value_counts(mask: NDArray[Any], limit: int = _MAX_VALUES) -> dict[float, int]:
    """Return value -> number of voxels, values sorted.

    NaN counts as one value. With more than `limit` values, counting stops, and the first ones and the last are returned.
    """
    found: dict[float, int] = {}
    for block in _blocks(mask):
        _count_block(block, found)
        if len(found) > limit:
            break
    ordered = sorted(found, key=lambda value: (np.isnan(value), value))
    if len(ordered) > limit:  # keep the range
        ordered = [*ordered[: limit - 1], ordered[-1]]
    return {value: found[value] for value in ordered}


def _count_block(block: NDArray[Any], found: dict[float, int]) -> None:
    first, last = block.min(), block.max()
    if first == last:
        found[float(first)] = found.get(float(first), 0) + block.size
        return
    rest = block
    # most voxels have one of a few values: sorting only the others is far faster
    frequent = sorted(found, key=lambda v: -found[v])[:4]
    for value in dict.fromkeys([*frequent, float(block[0]), float(last)]):
        other = rest != rest.dtype.type(value)
        if count := rest.size - int(np.count_nonzero(other)):
            found[value] = found.get(value, 0) + count
            rest = rest[other]
    if not rest.size:
        return
    for value, count in zip(*np.unique(rest, return_counts=True), strict=True):
        key = float(value)
        if np.isnan(key):  # NaN is not equal to itself, so each NaN would be a separate key
            key = next((k for k in found if np.isnan(k)), key)
        found[key] = found.get(key, 0) + int(count)


def _blocks(mask: NDArray[Any]) -> list[NDArray[Any]]:
    flat = mask.ravel(order="K")
    return [flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK)]


def relabelled(mask: NDArray[Any], rule: LabelRule, name: str) -> NDArray[np.uint8 | np.uint16]:
    """Give each voxel the label of its value.

    Raises
    ------
    DataError
        If a value is not a whole number or not in the rule.
    """
    return with_values(mask, rule.values(), name)


def with_values(mask: NDArray[Any], table: dict[int, int], name: str) -> NDArray[np.uint8 | np.uint16]:
    """Give each voxel the label in the table for its value; errors are those of `relabelled`."""
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
    # slab by slab, because fancy indexing needs an 8-byte index per voxel
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
        raise DataError(f"{name} holds values that aren't numbers")
    rounded = np.rint(mask)
    if np.abs(mask - rounded).max() > WHOLE_TOLERANCE:
        raise DataError(f"{name} holds values that aren't whole numbers, such as labels blurred by resampling")
    largest = np.abs(rounded).max()
    if largest > LARGEST_WHOLE:
        raise DataError(f"{name} holds {largest:g}, which no label is; correct it")
    return rounded.astype(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)


def _refuse_unknown(whole: NDArray[Any], table: dict[int, int], name: str) -> None:
    unknown = [int(value) for value in value_counts(whole) if int(value) not in table]
    shown = ", ".join(map(str, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    raise DataError(f"{name} holds labels that aren't in the data set's table: {shown}")


def lesion_load(label: NDArray[Any]) -> tuple[int, int]:
    """Return the number of voxels and of connected components (see `CONNECTIVITY`) of a binary label."""
    voxels = int(np.count_nonzero(label))
    if not voxels:
        return 0, 0
    part = np.asfortranarray(label[_bounding_box(label)] > 0)
    return voxels, label_components(part, CONNECTIVITY)[1]


def _bounding_box(label: NDArray[Any]) -> tuple[slice, ...]:
    box = [slice(None)] * label.ndim
    for axis in reversed(range(label.ndim)):  # the slowest axis first, because each axis makes the rest smaller
        others = tuple(i for i in range(label.ndim) if i != axis)
        found = np.flatnonzero(label[tuple(box)].any(axis=others))
        box[axis] = slice(int(found[0]), int(found[-1]) + 1)
    return tuple(box)
