"""Outputs, loss, predictions and scores of classification for each kind of table."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.pretraining.classification.class_tables import CaseTable, ClassTable, LabelTable, ValueTable
from nnunet_transfer.pretraining.classification.metrics import (
    area_under_curve,
    balanced_accuracy,
    confusion_matrix,
    r_squared,
)
from nnunet_transfer.pretraining.classification.settings import (
    KEY,
    NATURAL,
    ClassificationSettings,
)
from nnunet_transfer.pretraining.classification.summaries import (
    classification_summary,
    multi_label_summary,
    regression_summary,
)
from nnunet_transfer.registration import did_you_mean
from nnunet_transfer.training.precision import doubled

Table = TypeVar("Table", bound=CaseTable)


class Head(ABC, Generic[Table]):
    """Base class for one kind of target.

    Parameters
    ----------
    table : targets of the cases
    settings : settings in dataset.json
    training : training cases of the fold, which determine weights and scales
    """

    def __init__(self, table: Table, settings: ClassificationSettings, training: Sequence[str]) -> None:
        self.table = table
        self.settings = settings
        self.training = tuple(training)

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of outputs of the network."""

    @abstractmethod
    def loss(self) -> nn.Module:
        """Return the loss of outputs `(batch, outputs)` and `targets`."""

    @abstractmethod
    def targets(self, cases: Sequence[str]) -> torch.Tensor:
        """Return the targets of the loss, `(batch,)` or `(batch, outputs)`."""

    @abstractmethod
    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """Convert outputs to probabilities or values, `(batch, outputs)`, which are averaged over tiles."""

    @abstractmethod
    def epoch_score(self, cases: Sequence[str], predictions: np.ndarray) -> tuple[str, float, list[float]]:
        """Return the name of the score over patches, its value, which is always defined, and its parts."""

    @abstractmethod
    def summary(self, cases: Sequence[str], predictions: np.ndarray) -> dict[str, Any]:
        """Score the predictions for whole cases, `(cases, outputs)`, ready for JSON."""

    def sampled(self, cases: Sequence[str]) -> list[str]:
        """Return the list for uniform sampling of training cases."""
        return list(cases)

    def record(self) -> dict[str, Any]:
        """Return the settings that a model must share to be continued or validated."""
        return {"column": self.table.column, "settings": self.settings.given()}

    def details(self) -> dict[str, Any]:
        """Return the task's entries in the source's card."""
        return {"classes": self.table.counts(self.training), "settings": self.settings.given()}


class _Weighted(Head[Table]):
    """A head whose table has classes, which can be weighted."""

    table: Any

    def __init__(self, table: Table, settings: ClassificationSettings, training: Sequence[str]) -> None:
        super().__init__(table, settings, training)
        named = settings.class_weights if isinstance(settings.class_weights, Mapping) else {}
        if unknown := [name for name in named if name not in self.table.classes]:
            raise SettingsError(
                f"dataset.json, {KEY}: class_weights names the class '{unknown[0]}', which classes.csv doesn't have; "
                f"{did_you_mean(unknown[0], self.table.classes)}"
            )

    @property
    def outputs(self) -> int:
        """One per class."""
        return len(self.table.classes)

    def sampled(self, cases: Sequence[str]) -> list[str]:
        """Repeat cases so that classes are balanced, unless the settings request natural frequencies."""
        return list(cases) if self.settings.sampling == NATURAL else self.table.balanced(cases)

    def record(self) -> dict[str, Any]:
        """Add the classes, in the order of the outputs."""
        return super().record() | {"classes": list(self.table.classes)}

    def weights(self) -> torch.Tensor | None:
        """Return the class weights, float32 of shape `(classes,)`; None if all are equal."""
        asked = self.settings.class_weights
        if asked is None:
            return None
        if isinstance(asked, Mapping):
            return torch.tensor([float(asked.get(name, 1)) for name in self.table.classes])
        self.table.check_training(self.training)
        counts = np.array(list(self.table.counts(self.training).values()))
        return torch.from_numpy(self._balanced_weights(counts).astype(np.float32))

    @abstractmethod
    def _balanced_weights(self, counts: np.ndarray) -> np.ndarray:
        """Return weights that compensate for the number of training cases per class."""


class ClassHead(_Weighted[ClassTable]):
    """One class per case: softmax and cross-entropy."""

    def loss(self) -> nn.Module:
        """Return the cross-entropy."""
        return nn.CrossEntropyLoss(weight=self.weights(), label_smoothing=self.settings.label_smoothing)

    def _balanced_weights(self, counts: np.ndarray) -> np.ndarray:
        # King and Zeng, Political Analysis 2001;9:137-163, doi:10.1093/oxfordjournals.pan.a004868
        return counts.sum() / (len(counts) * counts)

    def targets(self, cases: Sequence[str]) -> torch.Tensor:
        """Return class indices."""
        return torch.from_numpy(self.table.indices(cases))

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return class probabilities, whose sum is 1."""
        return outputs.softmax(dim=1)

    def epoch_score(self, cases: Sequence[str], predictions: np.ndarray) -> tuple[str, float, list[float]]:
        """Return the balanced accuracy over patches, and the recall of each class, NaN if none was drawn."""
        confusion = confusion_matrix(self.table.indices(cases), predictions.argmax(axis=1), self.outputs)
        drawn = confusion.sum(axis=1)
        recalls = [float(confusion[i, i] / n) if n else float("nan") for i, n in enumerate(drawn)]
        return "balanced accuracy of patches", balanced_accuracy(confusion), recalls

    def summary(self, cases: Sequence[str], predictions: np.ndarray) -> dict[str, Any]:
        """Return accuracy, balanced accuracy, AUC and the cases' probabilities."""
        return classification_summary(cases, self.table.classes, self.table.indices(cases), predictions)


class LabelHead(_Weighted[LabelTable]):
    """Any number of classes per case: a sigmoid and binary cross-entropy for each."""

    def loss(self) -> nn.Module:
        """Return the binary cross-entropy, averaged over cases and classes."""
        return nn.BCEWithLogitsLoss(pos_weight=self.weights())

    def _balanced_weights(self, counts: np.ndarray) -> np.ndarray:
        # cases without the class divided by cases with it, as in the documentation of torch's BCEWithLogitsLoss
        return (len(self.training) - counts) / counts

    def targets(self, cases: Sequence[str]) -> torch.Tensor:
        """Return 1 for each class that a case has, otherwise 0, smoothed."""
        smoothing = self.settings.label_smoothing
        return torch.from_numpy(self.table.matrix(cases)).float() * (1 - smoothing) + smoothing / 2

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return each class's probability."""
        return outputs.sigmoid()

    def epoch_score(self, cases: Sequence[str], predictions: np.ndarray) -> tuple[str, float, list[float]]:
        """Return the mean AUC over patches and the AUC of each class, NaN if all drawn patches agree.

        An undefined mean counts as chance, 0.5, because nnU-Net's moving average would keep a NaN forever.
        """
        true = self.table.matrix(cases)
        areas = [area_under_curve(true[:, i], predictions[:, i]) for i in range(self.outputs)]
        return "mean AUC of patches", float(np.mean([0.5 if math.isnan(a) else a for a in areas])), areas

    def summary(self, cases: Sequence[str], predictions: np.ndarray) -> dict[str, Any]:
        """Return AUC, average precision, F1 and the cases' probabilities."""
        return multi_label_summary(cases, self.table.classes, self.table.matrix(cases), predictions)


class ValueHead(Head[ValueTable]):
    """A number per case: one output in units of the training cases' standard deviation, and the Huber loss.

    The loss is quadratic up to one standard deviation and linear beyond, so that a few wrong entries or extreme cases don't
    dominate the training: Huber, Ann Math Stat 1964;35:73-101, doi:10.1214/aoms/1177703732; with this threshold the
    smooth L1 loss of Girshick, ICCV 2015, doi:10.1109/ICCV.2015.169.
    """

    def __init__(self, table: ValueTable, settings: ClassificationSettings, training: Sequence[str]) -> None:
        super().__init__(table, settings, training)
        unfit = [key for key, value in settings.given().items() if value != NATURAL]
        if unfit:
            raise SettingsError(
                f"dataset.json, {KEY}: {unfit[0]} is for classes, but classes.csv has the column {table.column}; "
                f"remove it"
            )
        if not training:
            raise DataError("the fold has no training cases; fix splits_final.json")
        self.mean, self.deviation = table.scale(training)

    @property
    def outputs(self) -> int:
        """One."""
        return 1

    def loss(self) -> nn.Module:
        """Return the Huber loss with a threshold of one standard deviation."""
        return nn.HuberLoss(delta=1.0)

    def targets(self, cases: Sequence[str]) -> torch.Tensor:
        """Return standardised values, `(batch, 1)`."""
        return torch.from_numpy((self.table.values(cases) - self.mean) / self.deviation).float()[:, None]

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return values in the table's units."""
        return doubled(outputs) * self.deviation + self.mean

    def epoch_score(self, cases: Sequence[str], predictions: np.ndarray) -> tuple[str, float, list[float]]:
        """Return R² over patches; 0 if all drawn patches have the same value."""
        score = r_squared(self.table.values(cases), predictions[:, 0])
        score = 0.0 if math.isnan(score) else score
        return "R² of patches", score, [score]

    def summary(self, cases: Sequence[str], predictions: np.ndarray) -> dict[str, Any]:
        """Return errors, R², Pearson's r and the cases' values."""
        return regression_summary(cases, self.table.values(cases), predictions[:, 0], self.mean)

    def record(self) -> dict[str, Any]:
        """Add the scale."""
        return super().record() | {"scale": [self.mean, self.deviation]}

    def details(self) -> dict[str, Any]:
        """Return the scale."""
        return {"training_mean": self.mean, "training_sd": self.deviation}


#: kind of table -> its head
HEADS: dict[type[CaseTable], type[Head[Any]]] = {ClassTable: ClassHead, LabelTable: LabelHead, ValueTable: ValueHead}
