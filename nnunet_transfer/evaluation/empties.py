"""Scores of cases without lesions: one rule for every metric, which depends only on the reference.

Metrics of overlap, distance and detection are undefined if a mask is empty. If only cases with defined scores counted, an
arm with a false positive in a healthy brain would be scored on other cases than an arm without one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.evaluation.protocols import LesionProtocol
from nnunet_transfer.words import counted, verb

#: rule -> its description in the report
EMPTY_RULES: dict[str, str] = {
    "score": "Where the reference of a label is empty, an empty prediction scores as perfect (Dice 1, HD95 0 mm) and any "
    "other as a failure (Dice 0, HD95 the image's diagonal).",
    "leave-out": "Where the reference of a label is empty, the case is left out of that label's Dice, IoU, HD95, NSD and lesion "
    "scores, for every arm, but not of volumes, numbers of lesions and what is pooled over cases; false positives in these cases "
    "are reported separately.",
}
DEFAULT_EMPTY = "score"
#: metric -> its value where both masks are empty
PERFECT = {"dice": 1.0, "iou": 1.0, "nsd": 1.0, "hd95_mm": 0.0}
RATIOS = ("sensitivity", "precision", "f1")


def check_empty_rule(rule: str) -> None:
    """Check the name of a rule.

    Raises
    ------
    SettingsError
        If there is no rule with this name.
    """
    if rule not in EMPTY_RULES:
        raise SettingsError(f"unknown rule for empty references {rule!r}; choose from {', '.join(EMPTY_RULES)}")


def empty_share(cases: pd.DataFrame) -> str:
    """Say how many cases have an empty reference, of any label if there are several; an empty text if none has.

    Parameters
    ----------
    cases : one row per case and label, as returned by `apply_empty_rule`
    """
    empty, every = cases.loc[cases["reference_empty"], "case"].nunique(), cases["case"].nunique()
    of_label = " of at least one label" if cases["label"].nunique() > 1 else ""
    return (
        f"{empty} of {counted(every, 'case')} {verb(empty, 'has', 'have')} an empty reference{of_label}."
        if empty
        else ""
    )


def apply_empty_rule(cases: pd.DataFrame, protocols: Sequence[LesionProtocol], rule: str) -> pd.DataFrame:
    """Set or remove the scores of labels with an empty reference; all other scores are unchanged.

    Whether a score is missing then depends only on the reference. Rule `score` keeps a protocol's own values for empty
    masks; ratios that the protocol leaves undefined become 1 if both masks are empty, otherwise 0. For a protocol, a
    reference is empty if it has no lesion that the protocol counts.

    Parameters
    ----------
    cases : one row per case and label, as returned by `score_case`

    Returns
    -------
    DataFrame
        A copy, with the column `reference_empty`.
    """
    check_empty_rule(rule)
    if not len(cases):
        return cases.copy()
    changed = cases.copy()
    no_reference = (cases["voxels_tp"] + cases["voxels_fn"] == 0).to_numpy()
    no_prediction = (cases["voxels_tp"] + cases["voxels_fp"] == 0).to_numpy()
    for metric, best in PERFECT.items():
        if metric in cases:
            values = cases[metric].to_numpy(float)
            if rule == "leave-out":
                changed[metric] = np.where(no_reference, np.nan, values)
            else:
                changed[metric] = np.where(no_reference & no_prediction, best, values)
    for protocol in protocols:
        none = (cases[f"{protocol.name}_n_ref"] == 0).to_numpy()
        perfect = none & (cases[f"{protocol.name}_n_pred"] == 0).to_numpy()
        for ratio in RATIOS:
            key = f"{protocol.name}_{ratio}"
            values = cases[key].to_numpy(float)
            filled = np.where(np.isfinite(values), values, np.where(perfect, 1.0, 0.0))
            changed[key] = np.where(none, np.nan, filled) if rule == "leave-out" else filled
    changed["reference_empty"] = no_reference
    return changed
