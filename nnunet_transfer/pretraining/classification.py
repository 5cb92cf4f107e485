"""Pre-training by classification."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from torch import nn

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import read_json
from nnunet_transfer.pretraining.classes import balanced_cases, find_class_table, read_class_table
from nnunet_transfer.pretraining.metrics import balanced_accuracy, classification_summary, confusion_matrix
from nnunet_transfer.pretraining.networks import classification_network
from nnunet_transfer.pretraining.task_trainer import TaskPretrainer
from nnunet_transfer.pretraining.tiles import tiles
from nnunet_transfer.training.one_line import one_line_errors

#: plans key under which the classes are kept, in the order of the network's outputs
PLANS_KEY = "classification"


class ClassificationPretrainer(TaskPretrainer):
    """Train the encoder to tell the classes of `classes.csv` apart.

    Global average pooling and one linear layer follow the encoder; the loss is cross-entropy. Training patches are
    drawn so that every class is equally frequent, and augmented as in nnU-Net, mirroring included.
    """

    source_parts = "encoder"

    def apply_settings(self) -> None:
        """Read and check the class table, too: the network needs the number of classes."""
        super().apply_settings()
        with one_line_errors():
            path = find_class_table(self.plans_manager.dataset_name)
            dataset = infer_dataset_class(self.preprocessed_dataset_folder)
            self.class_table = read_class_table(path, dataset.get_identifiers(self.preprocessed_dataset_folder))
        # nnU-Net keeps the plans with the model and in its checkpoints
        self.plans_manager.plans[PLANS_KEY] = {"classes": list(self.class_table.classes)}

    def task_network(self, unet: nn.Module) -> nn.Module:
        """Return encoder, pooling and linear layer."""
        return classification_network(unet, len(self.class_table.classes))

    def check_before_training(self) -> None:
        """Refuse, in addition, a fold without training cases of some class; say if validation lacks one."""
        super().check_before_training()
        training, validation = self.do_split()
        balanced_cases(self.class_table, training)
        for name, count in self.class_table.counts(validation).items():
            if count == 0:
                self.print_to_log_file(f"WARNING: fold {self.fold} has no validation case of the class {name}")

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Load a checkpoint that was trained with the same classes."""
        if not self.was_initialized:
            self.initialize()
        plans = Path(self.output_folder_base) / "plans.json"
        with one_line_errors():
            known = read_json(plans).get(PLANS_KEY, {}).get("classes") if plans.is_file() else None
            if known not in (None, list(self.class_table.classes)):
                raise SettingsError(
                    f"classes.csv has the classes {', '.join(self.class_table.classes)}, the model in "
                    f"{self.output_folder} was trained with {', '.join(known)}; restore the table or train anew"
                )
        super().load_checkpoint(filename_or_checkpoint)

    def _build_loss(self) -> nn.Module:
        return nn.CrossEntropyLoss()

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Return nnU-Net's data sets; in the first, cases are repeated until the classes are balanced."""
        training, validation = super().get_tr_and_val_datasets()
        training.identifiers = balanced_cases(self.class_table, training.identifiers)
        return training, validation

    def _targets(self, batch: dict[str, Any]) -> torch.Tensor:
        return torch.from_numpy(self.class_table.indices(batch["keys"]))

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take nnU-Net's training step with the cases' classes as target."""
        return super().train_step({"data": batch["data"], "target": self._targets(batch)})

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the loss and the confusion matrix of a batch of patches."""
        target = self._targets(batch)
        with self.precision():
            logits = self.network(batch["data"].to(self.device, non_blocking=True)).float().cpu()
        predicted = logits.argmax(dim=1).numpy()
        return {
            "loss": float(self.loss(logits, target)),
            "confusion": confusion_matrix(target.numpy(), predicted, len(self.class_table.classes)),
        }

    def epoch_score(self, outputs: Sequence[dict[str, Any]]) -> tuple[str, float, list[float]]:
        """Return the balanced accuracy over patches, and each class's recall, NaN where none was drawn."""
        confusion = np.sum([output["confusion"] for output in outputs], axis=0)
        drawn = confusion.sum(axis=1)
        recalls = [float(confusion[i, i] / n) if n else float("nan") for i, n in enumerate(drawn)]
        return "balanced accuracy of patches", balanced_accuracy(confusion), recalls

    def score_case(self, network: nn.Module, case: str) -> np.ndarray:
        """Return the class probabilities of a case, float64: the mean softmax over the tiles that cover it."""
        patches = tiles(self.case_image(case), self.configuration_manager.patch_size)
        total, count = torch.zeros(len(self.class_table.classes), dtype=torch.float64), 0
        while batch := list(itertools.islice(patches, self.batch_size)):
            logits = network(torch.stack(batch).to(self.device))
            total += logits.float().softmax(dim=1).sum(dim=0).cpu()
            count += len(batch)
        return (total / count).numpy()

    def summarise(self, cases: Sequence[str], results: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return accuracy, balanced accuracy, AUC and the cases' probabilities."""
        table = self.class_table
        return classification_summary(cases, table.classes, table.indices(cases), np.stack(results))

    def source_details(self) -> dict[str, Any]:
        """Add the classes and how many training cases each has."""
        return {"classes": self.class_table.counts(self.do_split()[0])}
