"""Scores of classifiers and of regressions."""

from __future__ import annotations

import math

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


def average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the mean precision over the positives, each at its own score as threshold.

    Parameters
    ----------
    positive : boolean, shape `(cases,)`
    score : higher means more likely positive, shape `(cases,)`

    Returns
    -------
    float
        Between 0 and 1; NaN without positives.

    References
    ----------
    Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, section 8.4. Equal scores are one
    threshold, as in scikit-learn.
    """
    if not positive.any():
        return math.nan
    at_least = score[None, :] >= score[positive][:, None]
    return float(np.mean((at_least & positive).sum(axis=1) / at_least.sum(axis=1)))


def f1_score(positive: np.ndarray, predicted: np.ndarray) -> float:
    """Return 2 TP / (2 TP + FP + FN) of boolean arrays; NaN where nothing is positive or predicted."""
    found = int(positive.sum() + predicted.sum())
    return float(2 * (positive & predicted).sum() / found) if found else math.nan


def r_squared(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return 1 - sum of squared errors / sum of squared deviations from the mean; NaN where the values don't differ.

    References
    ----------
    Kvålseth, Am Stat 1985;39:279-285, doi:10.1080/00031305.1985.10479448, equation 1
    """
    deviations = float(((true - true.mean()) ** 2).sum()) if len(true) else 0.0
    return float(1 - ((true - predicted) ** 2).sum() / deviations) if deviations else math.nan


def pearson_r(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return Pearson's correlation; NaN where either is constant."""
    if len(true) < 2 or not true.std() or not predicted.std():
        return math.nan
    return float(np.corrcoef(true, predicted)[0, 1])
