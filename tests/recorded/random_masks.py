"""Random pairs of masks that are the same with every version of NumPy."""

from __future__ import annotations

import numpy as np

SHAPE = (20, 18, 16)
N_PAIRS = 300


def random_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a reference and a prediction: boxes, of which the prediction moves, splits, misses and invents some."""
    # the stream of RandomState never changes, that of Generator may
    rng = np.random.RandomState(seed)
    reference, prediction = np.zeros((2, *SHAPE), np.uint8)
    for _ in range(rng.randint(0, 9)):
        size, start = rng.randint(1, 6, 3), rng.randint(0, 14, 3)
        _fill(reference, start, size)
        fate = rng.randint(0, 10)
        if fate < 6:
            _fill(prediction, start + rng.randint(-2, 3, 3), np.maximum(1, size + rng.randint(-1, 2, 3)))
        elif fate < 8:
            prediction |= reference
            prediction[start[0] + size[0] // 2] = 0
    for _ in range(rng.randint(0, 4)):
        _fill(prediction, rng.randint(0, 14, 3), rng.randint(1, 4, 3))
    return reference, prediction


def _fill(mask: np.ndarray, start: np.ndarray, size: np.ndarray) -> None:
    start = np.maximum(start, 0)
    mask[tuple(slice(int(s), int(s + n)) for s, n in zip(start, size, strict=True))] = 1
