"""The metrics that arms are compared on: their titles, and their family of tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_transfer.evaluation.protocols import LesionProtocol
from nnunet_transfer.evaluation.scores import DETECTION_FIELDS

#: the metric of the declared family of tests
PRIMARY = "dice"
VOLUME_DIFFERENCE = "absolute_volume_difference_ml"
VOLUMES = ("volume_ref_ml", "volume_pred_ml")
#: numbers of lesions by each protocol
COUNTS = ("n_ref", "n_pred", "tp", "fp", "fn")


@dataclass(frozen=True)
class Metric:
    """A score of cases.

    Attributes
    ----------
    key : column of the tables
    title : title in the report, with the unit
    decimals : number of printed decimals
    higher_is_better : direction of the metric
    share : whether values lie between 0 and 1
    """

    key: str
    title: str
    decimals: int = 3
    higher_is_better: bool = True
    share: bool = True


def compared_metrics(protocols: Sequence[LesionProtocol]) -> list[str]:
    """Return the metrics with separate tables and figures; higher is better for all of them."""
    return [PRIMARY, "iou", *(f"{p.name}_f1" for p in protocols)]


def secondary_metrics(protocols: Sequence[LesionProtocol], columns: Sequence[str]) -> list[str]:
    """Return the other metrics whose differences are tested; with IoU and F1 they are the second family."""
    per_protocol = [
        f"{p.name}_{field}" for p in protocols for field in ("sensitivity", "precision", "count_difference")
    ]
    wanted = ["hd95_mm", "nsd", VOLUME_DIFFERENCE, *per_protocol]
    return [key for key in wanted if key in columns]


def metric_of(key: str, protocols: Sequence[LesionProtocol]) -> Metric:
    """Describe a metric by its column."""
    fixed = {
        PRIMARY: Metric(PRIMARY, "Dice"),
        "iou": Metric("iou", "IoU"),
        "nsd": Metric("nsd", "NSD"),
        "hd95_mm": Metric("hd95_mm", "HD95 (mm)", 1, False, False),
        VOLUME_DIFFERENCE: Metric(VOLUME_DIFFERENCE, "absolute volume difference (ml)", 2, False, False),
    }
    if key in fixed:
        return fixed[key]
    for protocol in protocols:
        own = {
            f"{protocol.name}_f1": Metric(key, f"{protocol.title} lesion F1"),
            f"{protocol.name}_sensitivity": Metric(key, f"{protocol.title} sensitivity"),
            f"{protocol.name}_precision": Metric(key, f"{protocol.title} precision"),
            f"{protocol.name}_count_difference": Metric(
                key, f"{protocol.title} absolute difference in lesion count", 1, False, False
            ),
        }
        if key in own:
            return own[key]
    raise KeyError(key)


def add_differences(cases: pd.DataFrame, protocols: Sequence[LesionProtocol]) -> pd.DataFrame:
    """Add each case's absolute difference in volume and, per protocol, in the number of lesions."""
    added = {VOLUME_DIFFERENCE: (cases["volume_pred_ml"] - cases["volume_ref_ml"]).abs()}
    for p in protocols:
        added[f"{p.name}_count_difference"] = (cases[f"{p.name}_n_pred"] - cases[f"{p.name}_n_ref"]).abs().astype(float)
    return cases.assign(**added)


def score_columns(protocols: Sequence[LesionProtocol], columns: Sequence[str]) -> list[str]:
    """Return the columns of scores that can be averaged, in the report's order."""
    detection = [f"{p.name}_{field}" for p in protocols for field in (*DETECTION_FIELDS, "count_difference")]
    wanted = ["dice", "iou", "hd95_mm", "nsd", *VOLUMES, VOLUME_DIFFERENCE, *detection]
    return [c for c in wanted if c in columns]


def total_columns(protocols: Sequence[LesionProtocol]) -> list[str]:
    """Return the columns whose labels are summed for a case: its volumes and its numbers of lesions."""
    return [*VOLUMES, *(f"{p.name}_{field}" for p in protocols for field in COUNTS)]


def outermost_totals(
    cases: pd.DataFrame, protocols: Sequence[LesionProtocol], outermost: Sequence[str]
) -> pd.DataFrame:
    """Remove the volumes and lesions of labels inside others, so that a sum over labels is that of their union.

    Parameters
    ----------
    outermost : labels that cover all others without overlap, see `LabelSet.outermost`; without any, only lesions can be summed
    """
    inside = ~cases["label"].isin(outermost)
    removed = total_columns(protocols) if outermost else VOLUMES
    return cases.assign(**{total: cases[total].mask(inside) for total in removed if total in cases})
