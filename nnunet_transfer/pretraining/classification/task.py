"""Pre-training on a property of whole cases: a class, several classes, or a number such as the age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from torch import nn

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.pretraining.classification.classes import find_class_table, read_class_table
from nnunet_transfer.pretraining.classification.heads import HEADS
from nnunet_transfer.pretraining.classification.settings import read_settings
from nnunet_transfer.pretraining.networks import classification_network
from nnunet_transfer.pretraining.task import PretrainingTask

if TYPE_CHECKING:
    from nnunet_transfer.pretraining.task_trainer import TaskPretrainer

#: plans key that stores the meaning of the outputs
PLANS_KEY = "classification"
#: settings that must agree to continue a training -> name in messages; all folds of a model share the first two
_FIXED = {
    "column": "classes.csv has the column",
    "classes": "classes.csv has the classes",
    "scale": "the training cases' values have mean and SD",
    "settings": "dataset.json asks for",
}
_SHARED_BY_FOLDS = ("column", "classes")


class ClassificationTask(PretrainingTask):
    """Train the encoder to predict the entry of a case in `classes.csv`.

    Global average pooling and one linear layer follow the encoder; `heads` has the loss for each kind of table. Patches
    are augmented as in nnU-Net, including mirroring.
    """

    source_parts = "encoder"

    def __init__(self, trainer: TaskPretrainer) -> None:
        """Read and check table and settings, because the network needs the number of outputs."""
        super().__init__(trainer)
        settings = read_settings(trainer.dataset_json)
        path = find_class_table(trainer.plans_manager.dataset_name)
        dataset = infer_dataset_class(trainer.preprocessed_dataset_folder)
        known = set(dataset.get_identifiers(trainer.preprocessed_dataset_folder))
        table = read_class_table(path, known)
        # check_before_training refuses missing cases of a split
        training = [case for case in trainer.do_split()[0] if case in known]
        self.head = HEADS[type(table)](table, settings, training)

    def network(self, unet: nn.Module) -> nn.Module:
        """Return encoder, pooling and linear layer."""
        return classification_network(unet, self.head.outputs)

    def loss(self) -> nn.Module:
        """Return the loss for the kind of table."""
        return self.head.loss()

    def check_before_training(self) -> None:
        """Refuse a fold without enough training cases for the task; log classes that validation lacks."""
        training, validation = self.trainer.do_split()
        self.head.table.check_training(training)
        for name, count in self.head.table.counts(validation).items():
            if count == 0:
                self.trainer.print_to_log_file(
                    f"WARNING: fold {self.trainer.fold} has no validation case of the class {name}"
                )

    def record(self) -> dict[str, Any]:
        """Return the meaning of the outputs."""
        return {PLANS_KEY: self.head.record()}

    def check_same(self, plans: Mapping[str, Any], *, same_fold: bool) -> None:
        """Refuse other classes, and for the same fold other settings or scales."""
        known, now = plans.get(PLANS_KEY, {}), self.head.record()
        for key, words in _FIXED.items():
            if key in known and (same_fold or key in _SHARED_BY_FOLDS) and known[key] != now.get(key):
                raise SettingsError(
                    f"{words} {_listed(now.get(key))}, the model in {self.trainer.output_folder} was trained with "
                    f"{_listed(known[key])}; restore it or train from scratch"
                )

    def sampled(self, cases: list[str]) -> list[str]:
        """Repeat cases of rare classes."""
        return self.head.sampled(cases)

    def training_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the patches, with the table's entries of their cases as targets."""
        return {"data": batch["data"], "target": self.head.targets(batch["keys"])}

    def validate_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the loss, cases and predictions of a batch of patches."""
        target = self.to_device(self.head.targets(batch["keys"]))
        with self.trainer.precision():
            outputs = self.trainer.network(self.to_device(batch["data"])).float()
        return {
            "loss": float(self.trainer.loss(outputs, target)),
            "cases": [str(case) for case in batch["keys"]],
            "predictions": self.head.predictions(outputs).cpu().numpy(),
        }

    def epoch_score(self, outputs: Sequence[dict[str, Any]]) -> tuple[str, float, list[float]]:
        """Return the score over all drawn patches."""
        cases = [case for output in outputs for case in output["cases"]]
        return self.head.epoch_score(cases, np.concatenate([output["predictions"] for output in outputs]))

    def score_case(self, network: nn.Module, case: str) -> np.ndarray:
        """Return the prediction for a case, float64 of shape `(outputs,)`: the mean over the tiles that cover it."""
        total, count = torch.zeros(self.head.outputs, dtype=torch.float64), 0
        for patches in self.covering_patches(case):
            total += self.head.predictions(network(patches).float()).sum(dim=0).cpu()
            count += len(patches)
        return (total / count).numpy()

    def summarise(self, cases: Sequence[str], results: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return the scores and the prediction for each case."""
        return self.head.summary(cases, np.stack(results))

    def details(self) -> dict[str, Any]:
        """Return the number of training cases of each class, or the scale of the values."""
        return self.head.details()


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value or "the defaults")
