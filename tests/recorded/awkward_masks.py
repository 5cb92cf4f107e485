"""Random pairs of masks of the kinds on which tools disagree, the same with every version of NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

N_PAIRS = 270
SPACINGS = ((1.0, 1.0, 1.0), (3.0, 0.9, 0.7), (2.0, 0.5, 0.5))
SHAPE, FLAT, THIN = (12, 14, 16), (1, 20, 24), (2, 14, 16)
OTHER_PATHOLOGY = 2

Mask = np.ndarray
Rng = np.random.RandomState


def awkward_pair(seed: int) -> tuple[Mask, Mask, tuple[float, float, float]]:
    """Return a reference, a prediction (uint8, axes z, y, x) and the voxel size in mm.

    The reference has 1 in lesions and, in a third of the pairs, 2 in another pathology; the prediction has 1.
    """
    # the stream of RandomState never changes, that of Generator may
    rng = np.random.RandomState(seed)
    kind = KINDS[seed % len(KINDS)]
    reference, prediction = (mask.astype(np.uint8) for mask in kind(rng))
    if rng.randint(0, 3) == 0:
        other = _boxes(rng, reference.shape, 2, 5)
        reference[other & (reference == 0)] = OTHER_PATHOLOGY
    return reference, prediction, SPACINGS[rng.randint(0, len(SPACINGS))]


def _boxes(rng: Rng, shape: tuple[int, ...], count: int, largest: int, flat: int | None = None) -> Mask:
    mask = np.zeros(shape, bool)
    for _ in range(count):
        start = [rng.randint(0, n) for n in shape]
        size = [1 if axis == flat else rng.randint(1, largest + 1) for axis in range(len(shape))]
        mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def _changed(rng: Rng, mask: Mask) -> Mask:
    """Return a prediction of the mask: moved, with holes, with false positives, or the mask itself."""
    fate = rng.randint(0, 8)
    if fate == 0:
        return mask.copy()
    moved = mask.copy()
    for axis, n in enumerate(mask.shape):
        if n > 2 and rng.randint(0, 2):
            moved = np.roll(moved, rng.randint(-2, 3), axis)
    if fate < 5:
        moved &= rng.random_sample(mask.shape) < 0.8
    if fate > 2:
        moved |= _boxes(rng, mask.shape, rng.randint(1, 4), 3)
    return moved


def _blobs(rng: Rng, shape: tuple[int, ...] = SHAPE) -> tuple[Mask, Mask]:
    reference = _boxes(rng, shape, rng.randint(1, 8), 5)
    return reference, _changed(rng, reference)


def _single_voxels(rng: Rng) -> tuple[Mask, Mask]:
    return _boxes(rng, SHAPE, rng.randint(1, 5), 1), _boxes(rng, SHAPE, rng.randint(1, 5), 1)


def _sheets(rng: Rng) -> tuple[Mask, Mask]:
    reference = _boxes(rng, SHAPE, rng.randint(1, 4), 9, flat=rng.randint(0, 3))
    return reference, _changed(rng, reference)


def _at_the_border(rng: Rng) -> tuple[Mask, Mask]:
    masks = np.zeros((2, *SHAPE), bool)
    for mask in masks:
        for _ in range(rng.randint(1, 4)):
            place = [
                slice(rng.randint(0, n - 2), None) if rng.randint(0, 2) else slice(0, rng.randint(1, n)) for n in SHAPE
            ]
            keep = rng.randint(0, 3)
            place[keep] = slice(0, rng.randint(1, 4))
            mask[tuple(place)] = True
    return masks[0], masks[1]


def _touching(rng: Rng) -> tuple[Mask, Mask]:
    """Cubes in a row that meet at a face, an edge or a corner, of which the prediction has some."""
    reference, prediction = np.zeros((2, *SHAPE), bool)
    place, size = np.array([rng.randint(0, 3) for _ in SHAPE]), rng.randint(1, 4)
    for _ in range(4):
        cube = tuple(slice(int(p), int(p) + size) for p in place)
        reference[cube] = True
        prediction[cube] = rng.randint(0, 3) > 0
        place = place + size * np.array([rng.randint(0, 2) for _ in SHAPE])
    return reference, prediction | _boxes(rng, SHAPE, rng.randint(0, 3), 2)


def _sparse(rng: Rng) -> tuple[Mask, Mask]:
    reference = rng.random_sample(SHAPE) < 0.03
    return reference, (reference & (rng.random_sample(SHAPE) < 0.7)) | (rng.random_sample(SHAPE) < 0.02)


def _empty(rng: Rng) -> tuple[Mask, Mask]:
    masks = [_boxes(rng, SHAPE, rng.randint(1, 4), 4) for _ in range(2)]
    for empty in ((0,), (1,), (0, 1))[rng.randint(0, 3)]:
        masks[empty][:] = False
    return masks[0], masks[1]


KINDS: tuple[Callable[[Rng], tuple[Mask, Mask]], ...] = (
    _blobs,
    _single_voxels,
    _sheets,
    _at_the_border,
    _touching,
    _sparse,
    lambda rng: _blobs(rng, FLAT),
    lambda rng: _blobs(rng, THIN),
    _empty,
)
