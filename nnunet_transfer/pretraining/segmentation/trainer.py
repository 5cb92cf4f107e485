"""Pre-training by segmentation, on one data set or on several that were pooled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from torch.optim import Optimizer

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.errors import DataError, PlansError, SettingsError
from nnunet_transfer.files import read_json
from nnunet_transfer.finetuning.fitted_start import fit_output_layers
from nnunet_transfer.finetuning.optimiser import optimiser_of
from nnunet_transfer.pretraining.segmentation.label_sets import KEY, POOLED_FROM, LabelSets, read_label_sets
from nnunet_transfer.pretraining.segmentation.set_outputs import LabelSetLoss, OwnOutputs
from nnunet_transfer.pretraining.segmentation.twin import fit_twin, learning_beside_twin
from nnunet_transfer.pretraining.trainer import PretrainingTrainer
from nnunet_transfer.pretraining.training_plans import TrainingPlans
from nnunet_transfer.recipes import RECIPES, Recipe
from nnunet_transfer.sources import SourceCard
from nnunet_transfer.sources.learning import Learning
from nnunet_transfer.sources.outputs import OUTPUTS, output_groups
from nnunet_transfer.training.one_line import one_line_errors

#: initial learning rate with a recipe. A random network tolerates larger steps than fine-tuning with its 0.001: on 12
#: subjects with 16 structures, 4500 iterations at 0.003 reached a Dice of 0.81, and 0.78 at 0.001
RECIPE_RATE = 3e-3


class SegmentationPretrainer(PretrainingTrainer):
    """nnU-Net's own training, whose result becomes a source.

    With `_adamw` or `_fitted`, it uses the optimiser and schedule of that recipe; `_fitted` also fits the output layers first.
    On a data set made by `nnunet_transfer pool`, the network has a group of outputs, including background, for each set.
    Network, loss and sampling only differ from nnU-Net in this case.
    """

    label_sets: LabelSets | None = None
    dataset_class: Any  # nnU-Net sets None first

    def apply_settings(self) -> None:
        """Apply the settings in the trainer's name, and a recipe's learning rate and weight decay."""
        super().apply_settings()
        if recipe := self.recipe:
            self.initial_lr = recipe.optimiser.rate
            self.weight_decay = recipe.optimiser.weight_decay

    @property
    def recipe(self) -> Recipe | None:
        """The recipe in the trainer's name, which replaces nnU-Net's schedule; None without a recipe."""
        if self.settings.own_schedule:
            return None
        recipe = RECIPES[self.settings.recipe]
        return replace(recipe, optimiser=replace(recipe.optimiser, rate=RECIPE_RATE))

    def _fits_heads(self) -> bool:
        return self.recipe is not None and self.recipe.heads != "random"

    def configure_optimizers(self) -> tuple[Optimizer, Any]:
        """Return nnU-Net's optimiser and schedule, or those of the recipe."""
        host = super().configure_optimizers
        if self.recipe is None:
            return host()
        return optimiser_of(self.recipe, unwrapped(self.network), self.num_epochs, host)

    def apply_own_settings(self) -> None:
        """Read and check the label sets, if any, because the network needs the number of outputs."""
        if KEY not in self.dataset_json:
            return
        dataset = infer_dataset_class(self.preprocessed_dataset_folder)
        cases = dataset.get_identifiers(self.preprocessed_dataset_folder)
        self.label_sets = read_label_sets(self.plans_manager.dataset_name, self.dataset_json, cases)
        if self._fits_heads():
            raise SettingsError(
                f"{self.__class__.__name__}: output layers of several label sets can't be fitted; drop "
                f"_{self.settings.recipe}, or take _adamw"
            )
        if self.is_cascaded:
            raise PlansError(
                f"{self.configuration_name} is the second stage of a cascade, whose input is one segmentation; "
                f"pre-train on another configuration, for instance 3d_fullres"
            )
        self.own_outputs = OwnOutputs(self.label_sets)
        # nnU-Net stores the plans with the model and in its checkpoints
        self.plans_manager.plans[KEY] = self.label_sets.labels
        self.plans_manager = TrainingPlans(self.plans_manager.plans, outputs=self.label_sets.outputs)

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build nnU-Net's network; refuse inference with several label sets, whose outputs nnU-Net can't tell apart."""
        if isinstance(plans_manager, TrainingPlans):
            num_output_channels = plans_manager.outputs
        elif KEY in plans_manager.plans:
            with one_line_errors():
                raise SettingsError(
                    "this model was pre-trained on several label sets and can't predict by itself; fine-tune from its "
                    "source, and find its scores in validation/summary.json"
                )
        return nnUNetTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )

    def initialize(self) -> None:
        """Initialise as in nnU-Net, then select the outputs of each case with a hook on the network."""
        super().initialize()
        if self.label_sets is not None:
            # on the outermost wrapper, outside the code that torch.compile compiles
            self.network.register_forward_hook(self.own_outputs)

    def check_before_training(self) -> None:
        """Also refuse a fold without training cases of a set; log sets that validation lacks."""
        super().check_before_training()
        if self.label_sets is None:
            return
        training, validation = self.do_split()
        for name, count in self.label_sets.counts(training).items():
            if not count:
                raise DataError(f"fold {self.fold} has no training case of the set {name}; fix splits_final.json")
        for name, count in self.label_sets.counts(validation).items():
            if not count:
                self.print_to_log_file(f"WARNING: fold {self.fold} has no validation case of the set {name}")

    def on_train_start(self) -> None:
        """Start the training, then measure the untrained network that the source must beat.

        With fitted output layers, the training starts from this network, otherwise from nnU-Net's initialisation.
        """
        super().on_train_start()
        if self.current_epoch == 0 and self.label_sets is None:
            if self._fits_heads():
                fit_output_layers(self)
            else:
                fit_twin(self)

    def learning(self, summary: Mapping[str, Any]) -> Learning | None:
        """Compare with the untrained network; None with several label sets."""
        return None if self.label_sets is not None else learning_beside_twin(self)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Load a checkpoint that was trained with the same label sets."""
        if not self.was_initialized:
            self.initialize()
        plans = Path(self.output_folder_base) / "plans.json"
        with one_line_errors():
            known = read_json(plans).get(KEY) if plans.is_file() else self.plans_manager.plans.get(KEY)
            now = self.label_sets.labels if self.label_sets is not None else None
            # the order matters, because it is that of the outputs
            if _in_order(known) != _in_order(now):
                raise SettingsError(
                    f"dataset.json has the label sets {', '.join(now or ['none'])}, the model in {self.output_folder} "
                    f"was trained with {', '.join(known or ['none'])} or with other labels; restore it or train again"
                )
        super().load_checkpoint(*args, **kwargs)

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        if self.label_sets is None:
            return loss
        # Dice over the batches of all processes would mix different sets
        dice: Any = unwrapped(getattr(loss, "loss", loss).dc)
        dice.ddp = False
        return LabelSetLoss(loss, self.own_outputs)

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Return nnU-Net's data sets; the training set repeats cases of small label sets."""
        training, validation = super().get_tr_and_val_datasets()
        if self.label_sets is not None:
            training.identifiers = self.label_sets.sampled(training.identifiers)
        return training, validation

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Run nnU-Net's training step."""
        self._note(batch["keys"])
        return super().train_step(batch)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Run nnU-Net's validation step."""
        self._note(batch["keys"])
        return super().validation_step(batch)

    def _note(self, cases: Any) -> None:
        if self.label_sets is not None:
            self.own_outputs.note(cases)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as in nnU-Net, each case with the outputs of its own set."""
        note, plain = self._note, self.dataset_class

        class Noting(plain):  # type: ignore[misc, valid-type]
            """nnU-Net's data set that notes each loaded case, because nnU-Net predicts it right after loading."""

            def load_case(self, identifier: str) -> Any:
                note([identifier])
                return super().load_case(identifier)

        self.dataset_class = Noting
        try:
            super().perform_actual_validation(save_probabilities)
        finally:
            self.dataset_class = plain

    def source_card(self) -> SourceCard:
        """Describe the source, with the pooled data sets as training data."""
        card = super().source_card()
        return replace(card, trained_on=(*card.trained_on, *self.dataset_json.get(POOLED_FROM, {}).values()))

    def source_details(self) -> dict[str, Any]:
        """Add the labels, the names of the outputs, and the number of training cases of each set."""
        details: dict[str, Any] = {"labels": self.dataset_json["labels"], OUTPUTS: output_groups(self.dataset_json)}
        if self.label_sets is not None:
            details[KEY] = self.label_sets.labels
            details["label_set_cases"] = self.label_sets.counts(self.do_split()[0])
        return details


def _in_order(labels: dict[str, dict[str, int]] | None) -> list[tuple[str, list[tuple[str, int]]]]:
    return [(name, list(own.items())) for name, own in (labels or {}).items()]
