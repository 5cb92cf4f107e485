"""The content of `validation/summary.json` for classification and regression."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nnunet_transfer.pretraining.classification.metrics import (
    accuracy,
    area_under_curve,
    average_precision,
    balanced_accuracy,
    confusion_matrix,
    f1_score,
    pearson_r,
    r_squared,
)

#: probability from which a class is predicted
THRESHOLD = 0.5


def classification_summary(
    cases: Sequence[str], classes: Sequence[str], true: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    """Score predicted class probabilities.

    The predicted class is the most probable one; ties go to the first. The AUC is that of each class against the rest,
    averaged over the classes for which it is defined (macro average), `None` if undefined.

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
    return {
        "task": "classification",
        "accuracy": _finite(accuracy(confusion)),
        "balanced_accuracy": _finite(balanced_accuracy(confusion)),
        "auc": _macro(areas.values()),
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


def multi_label_summary(
    cases: Sequence[str], classes: Sequence[str], true: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    """Score class probabilities if a case may have several classes.

    Parameters
    ----------
    cases : case identifiers
    classes : class names
    true : which classes the cases have, boolean of shape `(cases, classes)`
    probabilities : shape `(cases, classes)`

    Returns
    -------
    dict
        Ready for JSON: `auc`, `average_precision` and `f1` (at a probability of 0.5), each with its values per class
        and averaged over the classes for which it is defined (macro average, `None` if for none), `n_cases`,
        `classes` and one entry per case.
    """
    predicted = probabilities >= THRESHOLD
    columns = {name: (true[:, i], probabilities[:, i], predicted[:, i]) for i, name in enumerate(classes)}
    scores = {
        "auc": {name: area_under_curve(t, p) for name, (t, p, _) in columns.items()},
        "average_precision": {name: average_precision(t, p) for name, (t, p, _) in columns.items()},
        "f1": {name: f1_score(t, found) for name, (t, _, found) in columns.items()},
    }
    return {
        "task": "multi-label classification",
        **{score: _macro(values.values()) for score, values in scores.items()},
        **{f"{score}_per_class": {n: _finite(v) for n, v in values.items()} for score, values in scores.items()},
        "n_cases": len(cases),
        "classes": list(classes),
        "cases": [
            {
                "case": case,
                "classes": [name for i, name in enumerate(classes) if true[row, i]],
                "predicted": [name for i, name in enumerate(classes) if predicted[row, i]],
                "probabilities": {name: float(probabilities[row, i]) for i, name in enumerate(classes)},
            }
            for row, case in enumerate(cases)
        ],
    }


def regression_summary(
    cases: Sequence[str], true: np.ndarray, predicted: np.ndarray, training_mean: float
) -> dict[str, Any]:
    """Score predicted values.

    Parameters
    ----------
    cases : case identifiers
    true, predicted : values in the units of the table, shape `(cases,)`
    training_mean : mean value of the training cases

    Returns
    -------
    dict
        Ready for JSON: `mae`, `mae_of_training_mean` (the error of predicting the training mean for each case), `r2`,
        `pearson_r`, `n_cases` and one entry per case.
    """
    return {
        "task": "regression",
        "mae": float(np.abs(true - predicted).mean()),
        "mae_of_training_mean": float(np.abs(true - training_mean).mean()),
        "r2": _finite(r_squared(true, predicted)),
        "pearson_r": _finite(pearson_r(true, predicted)),
        "n_cases": len(cases),
        "cases": [
            {"case": case, "value": float(true[row]), "predicted": float(predicted[row])}
            for row, case in enumerate(cases)
        ],
    }


def _macro(values: Iterable[float]) -> float | None:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else None


def _finite(value: float) -> float | None:
    # NaN is not valid JSON
    return None if math.isnan(value) else value
