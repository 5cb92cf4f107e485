"""One group of outputs per label set: each case is trained, scored and predicted with the outputs of its set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from nnunet_transfer.pretraining.segmentation.label_sets import LabelSets

#: difference between the logits of a case's own labels and those of other sets; exp(-20) is 2e-9
MARGIN = 20.0

Outputs = torch.Tensor | Sequence[torch.Tensor]


class OwnOutputs:
    """A forward hook that arranges the outputs of each case's set by the values in the label maps.

    nnU-Net's online Dice, sliding window and export then work unchanged. The logits of other sets' labels are far below the
    lowest logit of the case's own labels everywhere, also after averaging and linear resampling. In training, the outputs
    are not rearranged, because the loss selects what it needs, and with a hundred labels rearranging takes gigabytes.

    Attributes
    ----------
    current : set index of each case of the batch, or of the case whose patches are predicted
    """

    def __init__(self, sets: LabelSets) -> None:
        self.sets = sets
        self.current: tuple[int, ...] = ()

    def note(self, cases: Sequence[Any]) -> None:
        """Set the cases of the next batch."""
        self.current = tuple(self.sets.set_of[str(case)] for case in cases)

    def __call__(self, module: nn.Module, inputs: Any, outputs: Outputs) -> Outputs:
        """Return logits `(batch, values, *spatial)` for outputs `(batch, outputs, *spatial)`, at each resolution."""
        if torch.is_grad_enabled():
            return outputs
        return at_each_resolution(self._arranged, outputs)

    def _arranged(self, outputs: torch.Tensor) -> torch.Tensor:
        numbers = self.current * len(outputs) if len(self.current) == 1 else self.current
        logits = outputs.new_empty((len(outputs), self.sets.values, *outputs.shape[2:]))
        for row, number in zip(range(len(outputs)), numbers, strict=True):
            own = outputs[row, self.sets.group(number)]
            logits[row] = own.amin(dim=0) - MARGIN
            logits[row, self.sets.values_of(number)] = own
        return logits

    def columns(self, number: int, channels: int) -> slice | list[int]:
        """Return the channels of a set, for plain or arranged outputs."""
        return self.sets.group(number) if channels == self.sets.outputs else self.sets.values_of(number)


class LabelSetLoss(nn.Module):
    """nnU-Net's loss over each set's own background and labels, averaged over the batch's cases.

    Background of one set may belong to a structure of another, so a case carries no information on the labels of other sets.

    Parameters
    ----------
    loss : nnU-Net's own, with or without deep supervision
    own : hook with the sets of the batch's cases
    """

    def __init__(self, loss: nn.Module, own: OwnOutputs) -> None:
        super().__init__()
        self.loss = loss
        self.own = own

    def forward(self, outputs: Outputs, target: Outputs) -> torch.Tensor:
        """Return the loss of the outputs `(batch, channels, *spatial)`, arranged or not.

        Parameters
        ----------
        target : label maps `(batch, 1, *spatial)`
        """
        numbers = self.own.current
        total: Any = 0
        for number in sorted(set(numbers)):
            rows = [row for row, other in enumerate(numbers) if other == number]
            part = self.loss(*self._restricted(outputs, target, number, rows))
            total = total + len(rows) / len(numbers) * part
        return total

    def _restricted(
        self, outputs: Outputs, target: Outputs, number: int, rows: Sequence[int]
    ) -> tuple[Outputs, Outputs]:
        """Return the rows of one set, with its labels renumbered from 1."""
        sets = self.own.sets
        values = sets.values_of(number)
        index = torch.zeros(sets.values + 1, dtype=torch.long)
        index[values] = torch.arange(len(values))
        if sets.ignore is not None:
            index[sets.ignore] = sets.ignore  # above all labels, also those of one set
        return (
            at_each_resolution(lambda all_: all_[:, self.own.columns(number, all_.shape[1])][rows], outputs),
            at_each_resolution(lambda labels: index.to(labels.device)[labels[rows].long()], target),
        )


def at_each_resolution(function: Callable[[torch.Tensor], torch.Tensor], tensors: Outputs) -> Outputs:
    """Apply a function to a tensor, or to each of deep supervision's."""
    return function(tensors) if isinstance(tensors, torch.Tensor) else [function(tensor) for tensor in tensors]
