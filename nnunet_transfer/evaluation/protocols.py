"""Lesion protocols as data: published rules for lesion-wise detection."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import read_json
from nnunet_transfer.registration import Registry, did_you_mean

NAN = float("nan")
CONNECTIVITIES = (6, 18, 26)
#: iterations of dilation; masks are padded by as many voxels, and published rules have at most 3
MOST_DILATION = 50

#: F1 family -> definition of true positives and of F1
F1_FAMILIES: dict[str, str] = {
    "reference": "TP = detected reference lesions, FP = predicted lesions without a match; F1 = TP / (TP + (FP + FN) / 2)",
    "prediction": "TP = matched predicted lesions, FN = undetected reference lesions; F1 = TP / (TP + (FP + FN) / 2)",
    "harmonic": "sensitivity over reference lesions, precision over predicted lesions; F1 = their harmonic mean",
    "one_to_one": "TP = pairs, each lesion in at most one; F1 = TP / (TP + (FP + FN) / 2)",
}
#: matching rule -> description in one line; the functions are in nnunet_transfer.evaluation.detection
MATCHINGS: dict[str, str] = {
    "any_overlap": "a lesion is matched if one voxel of it is covered",
    "coverage": "a lesion is matched if more than `threshold` of it is covered",
    "best_iou": "a lesion is matched if its IoU with one lesion of the other mask is at least `threshold`",
    "one_to_one_greedy": "pairs with IoU of at least `threshold`, taken by falling IoU, each lesion once",
    "one_to_one_optimal": "pairs with IoU of at least `threshold`, chosen for the largest sum of IoU, each lesion once",
    "anima": "covered by more than `threshold`, by lesions that lie inside it (`max_outside`, `enough_covered`)",
}


#: annotation of a field -> the types that it takes, and how messages call them
_KINDS: dict[str, tuple[Any, str]] = {
    "str": (str, "a text"),
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "int | None": (int | None, "a whole number or null"),
    "float": (int | float, "a number"),
    "float | None": (int | float | None, "a number or null"),
    "EmptyScores": (object, "an object"),
}


def _check_types(fields: Any, what: str) -> None:
    for field in dataclasses.fields(fields):
        value, (kind, words) = getattr(fields, field.name), _KINDS[str(field.type)]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise SettingsError(f"{what}: {field.name} is {value!r}; give {words}")
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingsError(f"{what}: {field.name} is {value}; give a finite number")


@dataclass(frozen=True)
class EmptyScores:
    """Scores for undefined ratios; None keeps the computed value, which may be NaN."""

    sensitivity: float | None = None
    precision: float | None = None
    f1: float | None = None

    def __post_init__(self) -> None:
        _check_types(self, "a lesion protocol's scores of empty masks")
        if not all(0 <= value <= 1 for value in dataclasses.astuple(self) if value is not None):
            raise SettingsError("a lesion protocol's scores of empty masks must lie in 0 ... 1")


@dataclass(frozen=True)
class LesionProtocol:
    """Rules for lesion-wise detection.

    Attributes
    ----------
    name
        Name on the command line.
    title
        Name in a report.
    connectivity
        Number of neighbours of a voxel in a connected component: 6, 18 or 26 (in 2D: 4, 8, 8).
    matching, threshold
        Matching rule, a key of `MATCHINGS`, and its threshold.
    f1
        Definition of F1, a key of `F1_FAMILIES`.
    min_volume_mm3, keep_equal
        Lesions of at most this volume count as background in both masks. With `keep_equal`, only smaller lesions do.
    ignore_small_reference
        Don't score small reference lesions, and don't count predictions that touch them as false positives. Small
        predicted lesions are kept.
    merge_dilation
        Number of dilation iterations that merge neighbouring reference lesions.
    max_outside, enough_covered
        Parameters beta and gamma of Anima.
    ignore_label
        Reference label whose voxels are first removed from both masks.
    both_empty, reference_empty, prediction_empty
        Scores if both masks, the reference or the prediction have no lesion.
    source
        Where the rules come from.
    """

    name: str
    title: str
    connectivity: int
    matching: str = "any_overlap"
    f1: str = "reference"
    threshold: float = 0.0
    min_volume_mm3: float = 0.0
    keep_equal: bool = False
    ignore_small_reference: bool = False
    merge_dilation: int = 0
    max_outside: float = 0.70
    enough_covered: float = 0.65
    ignore_label: int | None = None
    both_empty: EmptyScores = EmptyScores(1.0, 1.0, 1.0)
    reference_empty: EmptyScores = EmptyScores(f1=0.0)
    prediction_empty: EmptyScores = EmptyScores(f1=0.0)
    source: str = ""

    def __post_init__(self) -> None:
        _check_types(self, f"lesion protocol {self.name}")
        for field, allowed in (("connectivity", CONNECTIVITIES), ("matching", MATCHINGS), ("f1", F1_FAMILIES)):
            value = getattr(self, field)
            if value not in allowed:
                choices = ", ".join(map(str, allowed))
                raise SettingsError(f"lesion protocol {self.name}: {field} is {value!r}; choose from {choices}")
        # the table's columns begin with the name; it has voxels_tp already
        if not self.name.isidentifier() or self.name == "voxels":
            raise SettingsError(
                f"lesion protocol {self.name!r}: the name must be letters, digits and underscores, and not voxels"
            )
        shares = ("threshold", "max_outside", "enough_covered")
        if not all(0 <= getattr(self, share) <= 1 for share in shares):
            raise SettingsError(f"lesion protocol {self.name}: {', '.join(shares)} must lie in 0 ... 1")
        if self.min_volume_mm3 < 0 or not 0 <= self.merge_dilation <= MOST_DILATION:
            raise SettingsError(
                f"lesion protocol {self.name}: the volume must not be negative, merge_dilation lie in 0 ... {MOST_DILATION}"
            )

    def describe(self) -> str:
        """Return the rules in one sentence, for a methods section."""
        small = ""
        if self.min_volume_mm3:
            relation = "below" if self.keep_equal else "of at most"
            small = f"{relation} {self.min_volume_mm3:g} mm³"
            small = (
                f"; reference lesions {small} are not scored, nor predicted lesions of any size that match only these"
                if self.ignore_small_reference
                else f"; lesions {small} are left out"
            )
        merge = f"; reference lesions merged by {self.merge_dilation} × dilation" if self.merge_dilation else ""
        ignore = f"; voxels of reference label {self.ignore_label} left out" if self.ignore_label is not None else ""
        rule = MATCHINGS[self.matching].replace("`threshold`", f"{self.threshold:g}")
        rule = rule.replace("`max_outside`", f"at most {self.max_outside:g} outside")
        rule = rule.replace("`enough_covered`", f"until {self.enough_covered:g} is covered")
        return f"{self.title}: {self.connectivity}-connected components; {rule}; {F1_FAMILIES[self.f1]}{small}{merge}{ignore}"


def _check_protocol(name: str, protocol: LesionProtocol) -> None:
    if not isinstance(protocol, LesionProtocol) or protocol.name != name:
        raise SettingsError(f"lesion protocol {name}: register a LesionProtocol with this name")


PRESETS: Registry[LesionProtocol] = Registry(
    "protocols",
    {
        protocol.name: protocol
        for protocol in (
            LesionProtocol(
                "atlas_r2",
                "ATLAS R2.0",
                6,
                source="npnl/atlas2_grand_challenge, isles/scoring.py",
            ),
            LesionProtocol(
                "isles22",
                "ISLES'22",
                26,
                source="ezequieldlrosa/isles22, utils/eval_utils.py",
            ),
            LesionProtocol(
                "isles26",
                "ISLES'26",
                26,
                matching="one_to_one_greedy",
                f1="one_to_one",
                threshold=0.25,
                source="ISLES'26 evaluation of 2026-07 (panoptica NaiveThresholdMatching, IoU 0.25), read second-hand",
            ),
            LesionProtocol(
                "wmh2017",
                "WMH 2017",
                26,
                f1="harmonic",
                ignore_label=2,
                reference_empty=EmptyScores(sensitivity=1.0),
                prediction_empty=EmptyScores(precision=1.0),
                source="hjkuijf/wmhchallenge, evaluation.py",
            ),
            LesionProtocol(
                "msseg2016",
                "MSSEG 2016 (Anima)",
                6,
                matching="anima",
                f1="harmonic",
                threshold=0.10,
                min_volume_mm3=3.0,
                both_empty=EmptyScores(),
                reference_empty=EmptyScores(),
                prediction_empty=EmptyScores(0.0, 0.0, 0.0),
                source="Inria-Empenn/Anima-Public, animaSegPerfAnalyzer, defaults of its command line",
            ),
            LesionProtocol(
                "shifts_ms",
                "Shifts-MS",
                6,
                matching="best_iou",
                f1="prediction",
                threshold=0.25,
                source="Shifts-Project/shifts, mswml/metrics.py",
            ),
            LesionProtocol(
                "isbi2015",
                "ISBI 2015",
                18,
                f1="harmonic",
                source="Carass et al., NeuroImage 2017, 148:77 (LTPR, LFPR); the connectivity is not confirmed by public code",
            ),
            LesionProtocol(
                "brats2023",
                "BraTS 2023 (lesion-wise, METS)",
                26,
                min_volume_mm3=2.0,
                ignore_small_reference=True,
                merge_dilation=1,
                source="rachitsaluja/BraTS-2023-Metrics, values of the METS task",
            ),
        )
    },
    _check_protocol,
)


def get_protocol(name: str) -> LesionProtocol:
    """Return a preset by name.

    Raises
    ------
    SettingsError
        If there is no preset with this name.
    """
    if name not in PRESETS:
        raise SettingsError(f"unknown lesion protocol {name}; {did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def check_distinct(protocols: Sequence[LesionProtocol]) -> None:
    """Check that no two protocols have the same name, which their columns and lesions would share.

    Raises
    ------
    SettingsError
        If a name is given twice.
    """
    names = [protocol.name for protocol in protocols]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"lesion protocols given twice: {', '.join(twice)}")


def read_protocols(path: str | os.PathLike[str]) -> tuple[LesionProtocol, ...]:
    """Read protocols from a JSON file: one object, or a list of objects, with the attributes of `LesionProtocol`.

    `{"base": "atlas_r2", "name": "atlas_r2_10mm3", "min_volume_mm3": 10}` changes a preset.

    Raises
    ------
    SettingsError
        If an attribute is unknown or missing, or a value is not allowed.
    """
    content = read_json(path)
    if content == []:
        raise SettingsError(f"{path} holds no lesion protocol; write one, or leave the file out")
    return tuple(_protocol_from(entry, path) for entry in (content if isinstance(content, list) else [content]))


def _protocol_from(entry: Any, path: str | os.PathLike[str]) -> LesionProtocol:
    if not isinstance(entry, dict) or "name" not in entry:
        raise SettingsError(f"{path}: a lesion protocol is a JSON object with at least name, title and connectivity")
    fields = {f.name for f in dataclasses.fields(LesionProtocol)}
    values = {k: v for k, v in entry.items() if k != "base"}
    if unknown := sorted(set(values) - fields):
        raise SettingsError(f"{path}: unknown attribute {unknown[0]}; allowed are base, {', '.join(sorted(fields))}")
    for key in ("both_empty", "reference_empty", "prediction_empty"):
        if key in values:
            try:
                values[key] = EmptyScores(**values[key])
            except TypeError:
                raise SettingsError(f"{path}: {key} is an object with sensitivity, precision, f1") from None
    try:
        if "base" in entry:
            return dataclasses.replace(get_protocol(entry["base"]), **values)
        return LesionProtocol(**values)
    except TypeError as error:
        raise SettingsError(f"{path}: lesion protocol {entry['name']}: {error}") from None
