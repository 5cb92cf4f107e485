"""Fine-tuning: nnU-Net's training, initialised from a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import torch.distributed as dist
from torch.optim import Optimizer

from nnunet_transfer._nnunet import rewrapped, unwrapped
from nnunet_transfer.adaptation import Target, TransferReport, TransferSettings, transfer_weights
from nnunet_transfer.adaptation.parts import number_of_stages
from nnunet_transfer.errors import AdaptationError, DataError, PlansError, SourceError
from nnunet_transfer.files import read_json
from nnunet_transfer.finetuning.features import output_layers
from nnunet_transfer.finetuning.fitted_start import fit_output_layers
from nnunet_transfer.finetuning.heads import Rows
from nnunet_transfer.finetuning.named_heads import known_rows, matching_outputs, with_copied_outputs
from nnunet_transfer.finetuning.optimiser import optimiser_of
from nnunet_transfer.finetuning.parameters import (
    StartPull,
    check_parts,
    freeze_statistics,
    read_start,
    save_start,
    set_trained,
)
from nnunet_transfer.finetuning.scheduler import RecipeScheduler
from nnunet_transfer.naming import ARMS, TRANSFER
from nnunet_transfer.recipes import ENCODER, RECIPES, STEM, WHOLE, Recipe
from nnunet_transfer.sources import Source, load_source
from nnunet_transfer.sources.keys import canonical
from nnunet_transfer.sources.outputs import label_names, output_groups
from nnunet_transfer.training.base import NamedTrainer
from nnunet_transfer.training.one_line import one_line_errors
from nnunet_transfer.words import counted

REPORT_FILE = "transfer_report.json"
START_FILE = "start_weights.safetensors"
#: share of the epochs after which a network without any correct voxel is reported
GUARD = 0.1
_NOTHING_LEARNT = """WARNING: after {} of {} epochs the pseudo Dice of every label is 0: the network has learnt nothing yet.
  Most often the learning rate undoes the network at first: train with the recipe fitted (or adamw).
  If that recipe says so, look at images and labels together, then plan smaller patches or more epochs."""


class FineTuningTrainer(NamedTrainer):
    """An arm: nnU-Net's trainer whose network starts from a source, or at random in the control arm.

    The weights are loaded once, in place, at epoch 0 of a new training: not in `initialize`, which `--c` and `--val` also
    call, and not in `build_network_architecture`, which inference calls. These work without the source.
    """

    _report: TransferReport | None = None
    _known_rows: Mapping[int, Rows] = MappingProxyType({})

    def apply_settings(self) -> None:
        """Apply the settings in the trainer's name, and the recipe's learning rate and weight decay."""
        super().apply_settings()
        self.initial_lr = self.recipe.optimiser.rate
        self.weight_decay = self.recipe.optimiser.weight_decay

    def source_name(self) -> str | None:
        """Return the name of the source; `None` for the control arm."""
        if self.settings.base != TRANSFER:
            return ARMS[self.settings.base]
        block = self.plans_manager.plans.get("transfer") or {}
        if not block.get("source"):
            raise PlansError(
                f"{TRANSFER} takes its source from the plans, but {self.plans_manager.plans_name} names none; write "
                f"such plans with `nnunet_transfer plan -d {self.plans_manager.dataset_name} --source NAME` and train "
                f"with -p"
            )
        chosen = block.get("chosen")
        if chosen is None:
            return block["source"]
        if str(self.fold) not in chosen:
            raise PlansError(
                f"{self.plans_manager.plans_name} choose no source for fold {self.fold}, but for {', '.join(chosen)}; train "
                "these, or rank the sources for this fold in a study"
            )
        return chosen[str(self.fold)]

    def source_facts(self) -> dict[str, str] | None:
        """Return name and SHA-256 of the source; a continued training works without it and started from the reported one."""
        if self.current_epoch > 0:
            return _reported_source(Path(self.output_folder) / REPORT_FILE)
        name = self.source_name()
        try:
            return None if name is None else {"name": name, "sha256": load_source(name).card.sha256}
        except SourceError:
            return None

    def prepare_fresh_network(self) -> None:
        """Load the source's weights and write the transfer report into the fold's folder."""
        network = unwrapped(self.network)
        name = self.source_name()
        if name is None:
            self.print_to_log_file("Control arm: the network starts at random.")
            return
        block = self.plans_manager.plans.get("transfer") or {}
        settings = TransferSettings.from_dict(block.get("rules") or {})
        source = load_source(name)
        self._check_weights_are_the_planned(source)
        self._report = transfer_weights(
            network,
            source,
            rules=settings.rules,
            minimum_encoder=settings.minimum_encoder,
            scope="encoder" if self.settings.encoder_only else "encoder+decoder",
            target=self._target(),
        )
        self._check_recipe_reaches(self._report)
        if self.local_rank == 0:
            self._report.write(Path(self.output_folder) / REPORT_FILE)
        self.print_to_log_file(self._report.table(), add_timestamp=False)
        if self.recipe.heads == "by name":
            self._known_rows = self._rows_by_name(network, source, self._report)

    def _check_weights_are_the_planned(self, source: Source) -> None:
        """Refuse other weights than those that the plans were written for: another source may have got the name since."""
        block = self.plans_manager.plans.get("transfer") or {}
        for_folds = block.get("chosen") is not None
        stated = (block.get("chosen_sha256") or {}).get(str(self.fold)) if for_folds else block.get("sha256")
        planned, found = str(stated or ""), source.card.sha256
        if self.settings.base != TRANSFER or planned in ("", found):
            return
        again = (
            "rank the sources again in the study"
            if for_folds
            else "write the plans again with `nnunet_transfer plan --overwrite`"
        )
        raise SourceError(
            f"{self.plans_manager.plans_name} were written for other weights of source {source.card.name} (sha256 "
            f"{planned[:12]}, now {found[:12]}); restore that source, or {again}"
        )

    def _target(self) -> Target:
        labels = label_names(self.dataset_json, self.label_manager.foreground_labels) if self.is_cascaded else ()
        return Target.of_plans(
            self.plans_manager.dataset_name, self.configuration_manager.configuration, self.dataset_json, labels
        )

    def _check_recipe_reaches(self, report: TransferReport) -> None:
        """Refuse input channels whose weights start at 0 and stay frozen; log random weights that a recipe never trains."""
        trained = frozenset().union(*(phase.trained for phase in self.recipe.phases))
        if report.channels_at_zero and STEM not in trained:
            raise AdaptationError(
                f"{', '.join(report.channels_at_zero[:5])}: the source doesn't have these input channels, so their "
                f"weights start at 0, and the recipe {self.recipe.name} never trains them: the network would never see "
                f"them; take a recipe that does, such as lpft or sawtooth"
            )
        random = [d.key for d in report.decisions if d.status == "initialised" and d.part in {STEM, ENCODER} - trained]
        if random:
            text = (
                f"the recipe {self.recipe.name} never trains {counted(len(random), 'tensor')} of the encoder that the source has "
                f"no values for, and so leaves random ({', '.join(random[:2])}{', ...' if len(random) > 2 else ''})"
            )
            self._report = replace(report, warnings=(*report.warnings, text))

    def _rows_by_name(self, network: torch.nn.Module, source: Source, report: TransferReport) -> dict[int, Rows]:
        match = matching_outputs(source, output_groups(self.dataset_json)[0])
        if match is None:
            self.print_to_log_file(f"The source {source.card.name} has no output of the same name as a label here.")
            return {}
        stages = number_of_stages(canonical(network.state_dict()))
        rows = known_rows(match, source.tensors(), output_layers(network), stages, report.decisions)
        if not rows:
            self.print_to_log_file(
                f"No output of the source {source.card.name} is taken over by name: it has no output layers, or the decoder "
                f"that they belong to wasn't loaded."
            )
        return rows

    def _fit_heads(self) -> None:
        done = fit_output_layers(self, self._known_rows)
        if done and self._report:
            copied = {level.layer: [done.outputs[i] for i in level.copied] for level in done.levels}
            decisions = with_copied_outputs(self._report.decisions, copied)
            self._report = replace(self._report, fitted_heads=asdict(done), decisions=decisions)
            self._report.write(Path(self.output_folder) / REPORT_FILE)

    @property
    def recipe(self) -> Recipe:
        """The recipe in the trainer's name."""
        return RECIPES[self.settings.recipe]

    def configure_optimizers(self) -> tuple[Optimizer, RecipeScheduler]:
        """Return nnU-Net's optimiser with the recipe's parameter groups and schedule.

        nnU-Net calls this right after building the network, so the parts that the recipe needs are checked here.
        """
        if self.recipe.layer_decay != 1 or any(phase.trained != WHOLE for phase in self.recipe.phases):
            with one_line_errors():
                check_parts(unwrapped(self.network))
        return optimiser_of(self.recipe, unwrapped(self.network), self.num_epochs, super().configure_optimizers)

    def on_train_start(self) -> None:
        """Start the training, fit the heads and set up the pull towards the initial weights, depending on the recipe."""
        super().on_train_start()
        if left_out := self.recipe.left_out(self.num_epochs):
            self.print_to_log_file(
                f"WARNING: too few epochs for all of the recipe {self.recipe.name}; left out: {', '.join(left_out)}"
            )
        if self.current_epoch == 0 and self.recipe.heads != "random":
            self._fit_heads()
        if self.recipe.start_pull:
            path = Path(self.output_folder) / START_FILE
            network = unwrapped(self.network)
            if self.current_epoch == 0 and self.local_rank == 0:
                save_start(network, path)
            if self.is_ddp:
                dist.barrier()
            with one_line_errors():
                start = read_start(path)
            self.optimizer.register_step_pre_hook(StartPull(network, start, self.recipe.start_pull))

    def on_train_epoch_start(self) -> None:
        """Freeze or unfreeze parts for the phase of this epoch."""
        phase = self.recipe.at(self.current_epoch, self.num_epochs)
        network = unwrapped(self.network)
        if set_trained(network, phase.trained) and self.is_ddp:
            # DDP records at construction which parameters have gradients
            self.network = rewrapped(self.network)
        super().on_train_epoch_start()
        freeze_statistics(network, phase.trained)
        self.print_to_log_file(f"Phase: {phase.phase}")

    def on_epoch_end(self) -> None:
        """End the epoch; once, after a tenth of the epochs, at least one, warn if nothing has been learnt."""
        dice = np.asarray(self.logger.get_value("dice_per_class_or_region", step=-1))
        super().on_epoch_end()
        # NaN without foreground, neither predicted nor labelled, which says nothing
        met = dice[np.isfinite(dice)]
        if self.current_epoch == max(1, round(self.num_epochs * GUARD)) and met.size and not met.any():
            for line in _NOTHING_LEARNT.format(self.current_epoch, self.num_epochs).splitlines():
                self.print_to_log_file(line)


def _reported_source(path: Path) -> dict[str, str] | None:
    """Return name and SHA-256 of the source in a transfer report; None without one."""
    try:
        report = read_json(path)
        return {"name": report["source"], "sha256": report["sha256"]}
    except (DataError, KeyError, TypeError):
        return None
