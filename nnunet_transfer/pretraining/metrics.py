"""Scores of a classifier over the cases of a validation fold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count cases by true (rows) and predicted (columns) class index; int64 of shape `(classes, classes)`."""
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(confusion: np.ndarray) -> float:
    """Return the share of correctly classified cases; NaN without cases."""
    return float(np.trace(confusion) / confusion.sum()) if confusion.sum() else math.nan


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Return the mean recall over the classes that occur; NaN without cases.

    References
    ----------
    Brodersen et al., ICPR 2010, doi:10.1109/ICPR.2010.764
    """
    cases = confusion.sum(axis=1)
    present = cases > 0
    return float(np.mean(np.diag(confusion)[present] / cases[present])) if present.any() else math.nan


def area_under_curve(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve, as the Mann-Whitney statistic with ties counted half.

    Parameters
    ----------
    positive : boolean, shape `(cases,)`
    score : higher means more likely positive, shape `(cases,)`

    Returns
    -------
    float
        Between 0 and 1; NaN where all cases are positive or none is.

    References
    ----------
    Hanley and McNeil, Radiology 1982;143:29-36, doi:10.1148/radiology.143.1.7063747
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return math.nan
    ranks = rankdata(score)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def classification_summary(
    cases: Sequence[str], classes: Sequence[str], true: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    """Score predicted class probabilities.

    The predicted class is the most probable one, the first of equals. The AUC is that of each class against
    the rest, averaged over the classes for which it is defined (macro average); `None` stands for undefined.

    Parameters
    ----------
    cases : case identifiers
    classes : class names
    true : class indices, shape `(cases,)`
    probabilities : shape `(cases, classes)`, rows sum to 1

    Returns
    -------
    dict
        Ready for JSON: `accuracy`, `balanced_accuracy`, `auc`, `auc_per_class`, `confusion_matrix` (rows are
        true classes), `n_cases`, `classes` and one entry per case.
    """
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(true, predicted, len(classes))
    areas = {name: area_under_curve(true == i, probabilities[:, i]) for i, name in enumerate(classes)}
    defined = [area for area in areas.values() if not math.isnan(area)]
    return {
        "task": "classification",
        "accuracy": _finite(accuracy(confusion)),
        "balanced_accuracy": _finite(balanced_accuracy(confusion)),
        "auc": float(np.mean(defined)) if defined else None,
        "auc_per_class": {name: _finite(area) for name, area in areas.items()},
        "n_cases": len(cases),
        "classes": list(classes),
        "confusion_matrix": confusion.tolist(),
        "cases": [
            {
                "case": case,
                "class": classes[true[row]],
                "predicted": classes[predicted[row]],
                "probabilities": {name: float(probabilities[row, i]) for i, name in enumerate(classes)},
            }
            for row, case in enumerate(cases)
        ],
    }


def _finite(value: float) -> float | None:
    # NaN is no JSON
    return None if math.isnan(value) else value
