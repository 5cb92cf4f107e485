"""Settings of classification: the entry `classification` of dataset.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.registration import did_you_mean

KEY = "classification"
BALANCED, NATURAL = "balanced", "natural"


@dataclass(frozen=True)
class ClassificationSettings:
    """The content of the entry; missing settings have their defaults.

    Attributes
    ----------
    label_smoothing : share of each target that is spread evenly over all classes, in [0, 1). Szegedy et al., CVPR 2016,
        doi:10.1109/CVPR.2016.308, section 7, use 0.1. If cases have several classes, each class is a separate target
        between s / 2 and 1 - s / 2.
    class_weights : class -> weight of its cases in the loss, 1 by default; or "balanced", inversely proportional to
        their number; None for equal weights
    sampling : "balanced" or "natural"; None for the default of the kind of table
    """

    label_smoothing: float = 0.0
    class_weights: Mapping[str, float] | str | None = None
    sampling: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults, ready for JSON."""
        defaults = asdict(ClassificationSettings())
        return {key: value for key, value in asdict(self).items() if value != defaults[key]}


def read_settings(dataset_json: Mapping[str, Any]) -> ClassificationSettings:
    """Read and check the entry; without it, return the defaults.

    Raises
    ------
    SettingsError
        If a key is unknown, a value is out of range, or weights and sampling would both correct for class frequencies.
    """
    block = dataset_json.get(KEY, {})
    if not isinstance(block, Mapping):
        raise _fault(f"must be a block such as {{'label_smoothing': 0.1}}, not {block!r}")
    for key, value in block.items():
        if key not in _CHECKS:
            raise _fault(f"unknown key '{key}'; {did_you_mean(key, _CHECKS)}")
        _CHECKS[key](value)
    settings = ClassificationSettings(**block)
    if settings.class_weights == BALANCED and settings.sampling != NATURAL:
        raise _fault(
            f"class_weights '{BALANCED}' would correct for rare classes a second time; set sampling to '{NATURAL}' or "
            f"remove class_weights"
        )
    return settings


def _fault(text: str) -> SettingsError:
    return SettingsError(f"dataset.json, {KEY}: {text}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_smoothing(value: Any) -> None:
    if not _is_number(value) or not 0 <= value < 1:
        raise _fault(f"label_smoothing must be a number from 0 to below 1, not {value!r}")


def _check_weights(value: Any) -> None:
    if value == BALANCED or value is None:
        return
    if not isinstance(value, Mapping) or not value:
        raise _fault(f"class_weights must be '{BALANCED}' or give a number for each class, not {value!r}")
    for name, weight in value.items():
        if not _is_number(weight) or weight <= 0:
            raise _fault(f"the weight of class {name} must be a number above 0, not {weight!r}")


def _check_sampling(value: Any) -> None:
    if value not in (BALANCED, NATURAL):
        raise _fault(f"sampling must be '{BALANCED}' or '{NATURAL}', not {value!r}")


_CHECKS: dict[str, Callable[[Any], None]] = {
    "label_smoothing": _check_smoothing,
    "class_weights": _check_weights,
    "sampling": _check_sampling,
}
