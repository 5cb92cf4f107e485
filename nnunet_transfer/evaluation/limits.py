"""Limits of the user's settings for scores and statistics, checked in the same way everywhere."""

from __future__ import annotations

import math
import numbers

from nnunet_transfer.errors import SettingsError

#: with fewer bootstrap samples, the limits of a 95 % interval are unreliable
LEAST_DRAWS = 100


def check_limits(
    *, rope: object = None, tolerance_mm: object = None, draws: object = None, seed: object = None
) -> None:
    """Check settings of scores and statistics; None is not checked.

    Parameters
    ----------
    rope : half-width of the region of practical equivalence, above 0 and below 1
    tolerance_mm : tolerance of the normalised surface distance in mm, above 0
    draws : bootstrap samples, a whole number of at least 100
    seed : seed of the random numbers, a whole number of at least 0

    Raises
    ------
    SettingsError
        If a value is not a number, NaN, infinite or out of range.
    """
    if rope is not None and not 0 < _number(rope) < 1:
        raise SettingsError(f"rope is {rope}; give a difference above 0 and below 1")
    if tolerance_mm is not None and not 0 < _number(tolerance_mm) < math.inf:
        raise SettingsError(f"tolerance_mm is {tolerance_mm}; give a distance above 0 in mm")
    if draws is not None and not (isinstance(draws, numbers.Integral) and _number(draws) >= LEAST_DRAWS):
        raise SettingsError(f"draws is {draws}; give a whole number of bootstrap samples, at least {LEAST_DRAWS}")
    if seed is not None and not (isinstance(seed, numbers.Integral) and _number(seed) >= 0):
        raise SettingsError(f"seed is {seed}; give a whole number of at least 0")


def _number(value: object) -> float:
    """Return a number as a float, anything else as NaN, which is outside every range."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    return float(value)
