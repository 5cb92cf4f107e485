"""The base of all pretrainers, which save a source to the registry when they finish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.channels import channel_names
from nnunet_transfer.errors import SourceError
from nnunet_transfer.files import read_json
from nnunet_transfer.naming import PRETRAINERS
from nnunet_transfer.paths import sources_folder
from nnunet_transfer.pretraining.source_name import VARIABLE, source_name
from nnunet_transfer.sources import SourceCard, load_source, save_source
from nnunet_transfer.sources.learning import KEY, Learning, learning_of
from nnunet_transfer.sources.outputs import OUTPUTS
from nnunet_transfer.sources.schema import LABEL_CHANNELS
from nnunet_transfer.subjects import DONORS, MADE_FROM, donors_in
from nnunet_transfer.training.base import NamedTrainer
from nnunet_transfer.training.one_line import one_line_errors, one_line_full_disk

#: output layers; a target can't use those of a classifier, and those of a U-Net only if the label names are stored
_CLASSIFIER, _SEGMENTATION = "head.", "decoder.seg_layers."


class PretrainingTrainer(NamedTrainer):
    """nnU-Net's trainer, whose final weights become a source.

    `nnunet_transfer.pretraining.source_name` defines the name of the source. The first process writes the source after the
    final checkpoint. If that fails, for example on a full disk, `--c` writes it without training again. A later training on
    the same data set and configuration, with any fold or schedule, replaces the source.
    """

    @property
    def source_parts(self) -> str:
        """Parts of the network that are trained."""
        return "encoder+decoder"

    @property
    def source_method(self) -> str:
        """Suffix of the source's name; empty for the default method of a task."""
        return ""

    def check_before_training(self) -> None:
        """Also refuse a source name that belongs to a different source."""
        super().check_before_training()
        name, _ = source_name(self.source_task, self.dataset_json, self.source_method)
        if not (sources_folder() / name).exists():
            return
        existing = load_source(name).card
        if self._origin(existing) != self._origin(self.source_card()):
            raise SourceError(
                f"source {name} already exists, from {', '.join(existing.trained_on) or existing.created_with}"
                f" {existing.extra.get('configuration', '')}".rstrip()
                + f"; name the new one with {VARIABLE}=NAME, or remove {sources_folder() / name}"
            )

    @staticmethod
    def _origin(card: SourceCard) -> tuple[Any, ...]:
        # the source of one method must not silently replace that of another
        return card.task, card.trained_on, card.extra.get("configuration"), card.extra.get("method")

    @classmethod
    def _training(cls, card: SourceCard) -> tuple[Any, ...]:
        # all folds and plans of one origin write to the same source
        return (
            *cls._origin(card),
            card.trained_on_cases,
            *(card.extra.get(key) for key in ("trainer", "plans", "fold")),
        )

    @property
    def source_task(self) -> str:
        """The task of the source that this trainer makes."""
        return PRETRAINERS[self.settings.base]

    def source_card(self) -> SourceCard:
        """Return the card of the current source."""
        name, domain = source_name(self.source_task, self.dataset_json, self.source_method)
        configuration = self.configuration_manager
        training, _ = self.do_split()
        names = channel_names(self.dataset_json)
        return SourceCard(
            name=name,
            task=self.source_task,
            domain=domain,
            architecture={
                "network_class_name": configuration.network_arch_class_name,
                "arch_kwargs": configuration.network_arch_init_kwargs,
                "arch_kwargs_req_import": configuration.network_arch_init_kwargs_req_import,
            },
            input_channels=self.num_input_channels,
            channel_names=names,
            parts=self.source_parts,
            normalization_schemes=tuple(configuration.normalization_schemes),
            spacing=tuple(float(s) for s in configuration.spacing),
            patch_size=tuple(int(n) for n in configuration.patch_size),
            trained_on=(self.plans_manager.dataset_name, *self.dataset_json.get(MADE_FROM, ())),
            trained_on_cases=tuple(sorted(training)),
            licence=str(self.dataset_json.get("licence") or self.dataset_json.get("license") or ""),
            citation=str(self.dataset_json.get("reference") or ""),
            extra={
                "trainer": self.__class__.__name__,
                "plans": self.plans_manager.plans_name,
                "configuration": self.configuration_name,
                "fold": self.fold,
                "epochs": self.num_epochs,
                "iterations_per_epoch": self.num_iterations_per_epoch,
                **({LABEL_CHANNELS: self.num_input_channels - len(names)} if self.is_cascaded else {}),
                **({DONORS: donors} if (donors := self._lesion_donors(training)) else {}),
                **self.source_details(),
            },
        )

    def _lesion_donors(self, training: Iterable[str]) -> list[str]:
        """Return the donors of lesions pasted into the training cases."""
        donors = donors_in(self.dataset_json)
        return sorted({donors[case] for case in training if case in donors})

    def source_details(self) -> dict[str, Any]:
        """Hook: additional entries of the card."""
        return {}

    def on_train_end(self) -> None:
        """End the training as in nnU-Net, then write the source."""
        super().on_train_end()
        if self.local_rank == 0:
            with one_line_errors():
                self._save_source()

    def _save_source(self) -> None:
        card = self.source_card()
        unused = (_CLASSIFIER,) if OUTPUTS in card.extra else (_CLASSIFIER, _SEGMENTATION)
        tensors = {
            key: tensor for key, tensor in unwrapped(self.network).state_dict().items() if not key.startswith(unused)
        }
        with one_line_full_disk(
            f"the source {card.name} to {sources_folder()}; free some and run the same command with --c, which writes "
            f"it without training again"
        ):
            folder = save_source(card, tensors, overwrite=True)
        self.print_to_log_file(f"The source {card.name} was written to {folder}")

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as in nnU-Net, then record in the card whether the source has learnt its task."""
        super().perform_actual_validation(save_probabilities)
        if self.local_rank == 0:
            with one_line_errors():
                self.note_learning()

    def learning(self, summary: Mapping[str, Any]) -> Learning | None:
        """Hook: compare the source's score with the score without learning; None if unknown."""
        return learning_of(summary)

    def note_learning(self) -> None:
        """Record in the card whether the source has learnt its task, if this training made the source; log it."""
        if self.current_epoch < self.num_epochs:  # of --val_best
            self.print_to_log_file("This checkpoint is not the source, which has the final weights: it isn't judged.")
            return
        learning = self.learning(read_json(Path(self.output_folder) / "validation" / "summary.json"))
        if learning is None:
            self.print_to_log_file("Whether the source learnt its task is not judged.")
            return
        learning = replace(learning, score=learning.score + self._of_training_cases())
        verdict = "The source learnt its task" if learning.learned else "WARNING: the source did not learn its task"
        self.print_to_log_file(f"{verdict}: {learning.sentence()}")
        mine = self.source_card()
        folder = sources_folder() / mine.name
        if folder.exists():
            card = load_source(mine.name).card
            if self._training(card) == self._training(mine):
                replace(card, extra={**card.extra, KEY: learning.to_dict()}).write(folder)

    def _of_training_cases(self) -> str:
        """Return words for a score on cases that were trained on, which a network that memorised them reaches, too."""
        training, validation = map(set, self.do_split())
        if not training & validation:
            return ""
        return " of training cases" if validation <= training else " partly of training cases"
