"""Pre-training by what is known of a whole case: its class, its classes, or a number such as the age."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from torch import nn

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import read_json
from nnunet_transfer.pretraining.classification.classes import find_class_table, read_class_table
from nnunet_transfer.pretraining.classification.heads import HEADS
from nnunet_transfer.pretraining.classification.settings import read_settings
from nnunet_transfer.pretraining.networks import classification_network
from nnunet_transfer.pretraining.task_trainer import TaskPretrainer
from nnunet_transfer.pretraining.tiles import tiles
from nnunet_transfer.training.one_line import one_line_errors

#: plans key under which is kept what the outputs mean
PLANS_KEY = "classification"
#: what must be the same to go on -> how to say so; all folds of a model share the first two
_FIXED = {
    "column": "classes.csv has the column",
    "classes": "classes.csv has the classes",
    "scale": "the training cases' values have mean and SD",
    "settings": "dataset.json asks for",
}
_SHARED_BY_FOLDS = ("column", "classes")


class ClassificationPretrainer(TaskPretrainer):
    """Train the encoder to tell what `classes.csv` says of a case.

    Global average pooling and one linear layer follow the encoder; `heads` has the loss of each kind of table. Patches
    are augmented as in nnU-Net, mirroring included.
    """

    source_parts = "encoder"

    def apply_settings(self) -> None:
        """Read and check the table and the settings, too: the network needs the number of outputs."""
        super().apply_settings()
        with one_line_errors():
            settings = read_settings(self.dataset_json)
            path = find_class_table(self.plans_manager.dataset_name)
            dataset = infer_dataset_class(self.preprocessed_dataset_folder)
            known = set(dataset.get_identifiers(self.preprocessed_dataset_folder))
            table = read_class_table(path, known)
            # a split's cases that aren't there are refused in check_before_training
            training = [case for case in self.do_split()[0] if case in known]
            self.head = HEADS[type(table)](table, settings, training)
        # nnU-Net keeps the plans with the model and in its checkpoints
        self.plans_manager.plans[PLANS_KEY] = self.head.record()

    def task_network(self, unet: nn.Module) -> nn.Module:
        """Return encoder, pooling and linear layer."""
        return classification_network(unet, self.head.outputs)

    def check_before_training(self) -> None:
        """Refuse, in addition, a fold that can't teach the task; say if validation lacks a class."""
        super().check_before_training()
        training, validation = self.do_split()
        self.head.table.check_training(training)
        for name, count in self.head.table.counts(validation).items():
            if count == 0:
                self.print_to_log_file(f"WARNING: fold {self.fold} has no validation case of the class {name}")

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Load a checkpoint that was trained for the same outputs, with the same settings."""
        if not self.was_initialized:
            self.initialize()
        plans = Path(self.output_folder_base) / "plans.json"
        with one_line_errors():
            if plans.is_file():  # before loading: other outputs would not fit
                known = read_json(plans).get(PLANS_KEY, {})
                self._refuse_others({key: known[key] for key in _SHARED_BY_FOLDS if key in known})
        super().load_checkpoint(filename_or_checkpoint)
        with one_line_errors():
            self._refuse_others(self.my_init_kwargs["plans"].get(PLANS_KEY, {}))

    def _refuse_others(self, known: Mapping[str, Any]) -> None:
        now = self.head.record()
        for key, words in _FIXED.items():
            if key in known and known[key] != now.get(key):
                raise SettingsError(
                    f"{words} {_listed(now.get(key))}, the model in {self.output_folder} was trained with "
                    f"{_listed(known[key])}; restore it or train anew"
                )

    def _build_loss(self) -> nn.Module:
        with one_line_errors():
            return self.head.loss().to(self.device)

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Return nnU-Net's data sets; in the first, cases may be repeated."""
        training, validation = super().get_tr_and_val_datasets()
        training.identifiers = self.head.sampled(training.identifiers)
        return training, validation

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take nnU-Net's training step with what the table says of the cases as target."""
        return super().train_step({"data": batch["data"], "target": self.head.targets(batch["keys"])})

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the loss, cases and predictions of a batch of patches."""
        target = self.head.targets(batch["keys"]).to(self.device, non_blocking=True)
        with self.precision():
            outputs = self.network(batch["data"].to(self.device, non_blocking=True)).float()
        return {
            "loss": float(self.loss(outputs, target)),
            "cases": [str(case) for case in batch["keys"]],
            "predictions": self.head.predictions(outputs).cpu().numpy(),
        }

    def epoch_score(self, outputs: Sequence[dict[str, Any]]) -> tuple[str, float, list[float]]:
        """Return the kind's score over all patches drawn."""
        cases = [case for output in outputs for case in output["cases"]]
        return self.head.epoch_score(cases, np.concatenate([output["predictions"] for output in outputs]))

    def score_case(self, network: nn.Module, case: str) -> np.ndarray:
        """Return the prediction for a case, float64 of shape `(outputs,)`: the mean over the tiles that cover it."""
        patches = tiles(self.case_image(case), self.configuration_manager.patch_size)
        total, count = torch.zeros(self.head.outputs, dtype=torch.float64), 0
        while batch := list(itertools.islice(patches, self.batch_size)):
            outputs = network(torch.stack(batch).to(self.device))
            total += self.head.predictions(outputs.float()).sum(dim=0).cpu()
            count += len(batch)
        return (total / count).numpy()

    def summarise(self, cases: Sequence[str], results: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return the kind's scores and each case's prediction."""
        return self.head.summary(cases, np.stack(results))

    def source_details(self) -> dict[str, Any]:
        """Add the classes and how many training cases each has, or the values' scale."""
        return self.head.details()


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value or "the defaults")
