"""Whether a source learnt its task: its validation score compared with the score of an untrained network. No torch.

An arm whose source has learnt nothing amounts to another random start. A source has learnt its task if its score is better
than the score without learning by more than chance explains:

segmentation
    Dice above that of the untrained network with fitted output layers by `DICE_MARGIN`
classification
    with two classes, or several per case: mean area under the curve above the 95th percentile of guessing for this number
    of cases (normal approximation of the Mann-Whitney statistic). The area measures how well classes are separated; it
    doesn't depend on the threshold, which a few training patches determine and which may not fit whole images. With more
    classes: balanced accuracy above the 95th percentile of guessing among the classes that have cases (normal
    approximation of the binomial distribution of each class's recall)
regression
    mean error below that of the best constant, the median of the validation cases, by `ERROR_MARGIN`: a network that has learnt
    nothing also predicts a constant, which may happen to be nearer to few validation cases than the training mean
restoration
    explained variance above `VARIANCE_MARGIN`; predicting the mean of each patch explains none
contrastive learning
    retrieval of the partner view above the 95th percentile of guessing

Nothing is judged where a network that has learnt nothing can't be told from one that has: with cases of a single class or value,
or of none or all of several, with so few that guesses are perfect now and then and better than chance proves nothing, with a
single case in contrastive learning, whose views have nobody else to be taken for, and in a segmentation that the untrained
network does nearly perfectly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from nnunet_transfer.sources.card import SourceCard

#: key of the card's `extra`
KEY = "learning"
DICE_MARGIN = 0.05
ERROR_MARGIN = 0.05
VARIANCE_MARGIN = 0.05
#: 95th percentile of the standard normal distribution
_QUANTILE = 1.645


@dataclass(frozen=True)
class Learning:
    """The validation score of a source and the score without learning.

    Attributes
    ----------
    score : name of the score in words
    value : score of the source; None if it is undefined
    untrained : score of a network that has learnt nothing
    needed : score from which the source has learnt its task
    lower_is_better : True for errors
    """

    score: str
    value: float | None
    untrained: float
    needed: float
    lower_is_better: bool = False

    @property
    def learned(self) -> bool:
        """Whether the score is good enough; an undefined score is not."""
        if self.value is None or math.isnan(self.value):
            return False
        return self.value <= self.needed if self.lower_is_better else self.value >= self.needed

    def sentence(self) -> str:
        """Return one line for logs and reports."""
        found = "undefined" if self.value is None or math.isnan(self.value) else f"{self.value:.3f}"
        bound = "at most" if self.lower_is_better else "at least"
        return f"{self.score} {found}; {self.untrained:.3f} without learning, {bound} {self.needed:.3f} needed"

    def brief(self) -> str:
        """Return a few words for tables, the verdict first: a table may cut the end."""
        found = "undefined" if self.value is None or math.isnan(self.value) else f"{self.value:.2f}"
        return f"{'yes' if self.learned else 'no'}: {found} ({self.untrained:.2f} without), {self.score}"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the card."""
        return {**asdict(self), "learned": self.learned}


def learning_of(summary: Mapping[str, Any]) -> Learning | None:
    """Return the score of a classification, regression or self-supervised network from its `validation/summary.json`.

    Returns
    -------
    Learning or None
        None for any other summary, and for cases that can't show it.
    """
    task, count = summary.get("task"), int(summary.get("n_cases") or 0)
    if task == "classification" and not (len(summary["classes"]) == 2 and _is_number(summary.get("auc"))):
        return _balanced_accuracy(summary)
    if task in ("classification", "multi-label classification"):
        if not _is_number(summary.get("auc")):
            return None
        return _above_chance("mean area under the curve", summary["auc"], 0.5, _auc_deviation(summary))
    if task == "regression":
        return _regression(summary)
    if "explained_variance" in summary:
        return Learning("explained variance", summary["explained_variance"], 0.0, VARIANCE_MARGIN)
    if "top1_accuracy" in summary:
        if count < 2:
            return None
        chance = float(summary["chance"])
        deviation = math.sqrt(chance * (1 - chance) / (2 * count))
        return _above_chance("retrieval of partners", summary["top1_accuracy"], chance, deviation)
    return None


def segmentation_learning(dice: float, untrained: float) -> Learning | None:
    """Compare the pseudo Dice of a segmentation source's last epochs with that of the untrained network.

    Returns
    -------
    Learning or None
        None if the untrained network is so good that no source could be better by the margin, and this one is better.
    """
    needed = untrained + DICE_MARGIN
    if needed > 1 and dice > untrained:
        return None
    return Learning("pseudo Dice on validation patches", dice, untrained, min(1.0, needed))


def learning_on(card: SourceCard) -> Learning | None:
    """Return the score in a card; None if it has none or an invalid one."""
    stated = card.extra.get(KEY)
    if not isinstance(stated, Mapping):
        return None
    try:
        learning = Learning(**{key: value for key, value in stated.items() if key != "learned"})
        learning.sentence()
    except (TypeError, ValueError):
        return None
    return learning if isinstance(learning.score, str) else None


def learning_warnings(card: SourceCard) -> tuple[str, ...]:
    """Return a warning for readers of an arm's results if its source has not learnt its task."""
    stated = card.extra.get(KEY)
    if not isinstance(stated, Mapping) or stated.get("learned") is not False:
        return ()
    learning = learning_on(card)
    facts = learning.sentence() if learning else "see its card"
    return (f"source {card.name} did not learn its task ({facts}): this arm is close to another random start",)


def _balanced_accuracy(summary: Mapping[str, Any]) -> Learning | None:
    """Compare with the best that a constant or a guess reaches: 1 / number of the classes that have cases."""
    cases = summary.get("cases") or ()
    counts = [n for n in (_cases_of(name, cases) for name in summary["classes"]) if n]
    if len(counts) < 2:
        return None
    chance = 1 / len(counts)
    deviation = math.sqrt(chance * (1 - chance) * sum(1 / n for n in counts)) / len(counts)
    return _above_chance("balanced accuracy", summary.get("balanced_accuracy"), chance, deviation)


def _regression(summary: Mapping[str, Any]) -> Learning | None:
    values = [float(case["value"]) for case in summary.get("cases") or ()]
    constant = float(summary["mae_of_training_mean"])
    if values:
        middle = median(values)
        constant = min(constant, sum(abs(value - middle) for value in values) / len(values))
    if not constant:
        return None
    return Learning("mean absolute error", summary.get("mae"), constant, (1 - ERROR_MARGIN) * constant, True)


def _above_chance(score: str, value: float | None, chance: float, deviation: float) -> Learning | None:
    """Compare with guessing; None for a score above chance where even a perfect one would not be above what guessing reaches."""
    needed = chance + _QUANTILE * deviation
    if needed > 1 and value is not None and value > chance:
        return None
    return Learning(score, value, chance, min(1.0, needed))


def _cases_of(name: str, cases: Sequence[Mapping[str, Any]]) -> int:
    return sum(name == case["class"] if "class" in case else name in case["classes"] for case in cases)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def _auc_deviation(summary: Mapping[str, Any]) -> float:
    """Return the standard deviation of the area under the curve of guesses, averaged over the classes that have one."""
    cases = summary.get("cases") or ()
    deviations = []
    for name in summary["classes"]:
        positive = _cases_of(name, cases)
        negative = len(cases) - positive
        if positive and negative:
            deviations.append(math.sqrt((len(cases) + 1) / (12 * positive * negative)))
    return sum(deviations) / len(deviations) if deviations else 0.5 / _QUANTILE
