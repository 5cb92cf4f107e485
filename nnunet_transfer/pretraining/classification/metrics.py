"""Scores of classification and regression from scikit-learn and SciPy; NaN if undefined.

References
----------
Brodersen et al., ICPR 2010, doi:10.1109/ICPR.2010.764 (balanced accuracy); Hanley and McNeil, Radiology 1982;143:29-36,
doi:10.1148/radiology.143.1.7063747 (area under the curve); Kvålseth, Am Stat 1985;39:279-285,
doi:10.1080/00031305.1985.10479448, equation 1 (R squared).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import pearsonr
from sklearn import metrics


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count cases by true (rows) and predicted (columns) class index; int64 of shape `(classes, classes)`."""
    if not len(true):
        return np.zeros((classes, classes), np.int64)
    counts: np.ndarray = metrics.confusion_matrix(true, predicted, labels=np.arange(classes))
    return counts


def accuracy(confusion: np.ndarray) -> float:
    """Return the share of correctly classified cases; NaN without cases."""
    return float(np.trace(confusion) / confusion.sum()) if confusion.sum() else math.nan


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Return the mean recall over the classes that occur; NaN without cases."""
    cases = confusion.sum(axis=1)
    present = cases > 0
    return float(np.mean(np.diag(confusion)[present] / cases[present])) if present.any() else math.nan


def area_under_curve(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve, with ties counted half.

    Parameters
    ----------
    positive : boolean, shape `(cases,)`
    score : higher means more likely positive, shape `(cases,)`

    Returns
    -------
    float
        Between 0 and 1; NaN if all or no cases are positive.
    """
    return math.nan if positive.all() or not positive.any() else float(metrics.roc_auc_score(positive, score))


def average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the mean precision over the positives, each with its own score as the threshold; equal scores share a threshold.

    Returns
    -------
    float
        Between 0 and 1; NaN without positives.
    """
    return float(metrics.average_precision_score(positive, score)) if positive.any() else math.nan


def f1_score(positive: np.ndarray, predicted: np.ndarray) -> float:
    """Return 2 TP / (2 TP + FP + FN) of boolean arrays; NaN if nothing is positive or predicted."""
    return float(metrics.f1_score(positive, predicted)) if positive.any() or predicted.any() else math.nan


def r_squared(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return 1 - sum of squared errors / sum of squared deviations from the mean; NaN if the values don't differ."""
    return float(metrics.r2_score(true, predicted)) if len(np.unique(true)) > 1 else math.nan


def pearson_r(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return Pearson's correlation; NaN if either is constant."""
    if len(np.unique(true)) < 2 or len(np.unique(predicted)) < 2:
        return math.nan
    return float(pearsonr(true, predicted).statistic)
