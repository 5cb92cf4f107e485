"""Fit every output layer of a trainer's network to training patches before the first epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.files import write_json
from nnunet_transfer.finetuning.features import Labelling, batch_statistics, collect, output_layers, rooms
from nnunet_transfer.finetuning.heads import Head, LossTerms, Rows, Voxels, constant_loss, fit_head, loss_of
from nnunet_transfer.finetuning.whole_batches import parts_of, whole_batches
from nnunet_transfer.sources.outputs import output_groups
from nnunet_transfer.training.base import NamedTrainer
from nnunet_transfer.training.one_line import one_line_errors
from nnunet_transfer.training.seeding import seed_everything
from nnunet_transfer.words import counted

HEADS_FILE = "fitted_heads.json"
#: minimum number of batches and patches for the fit, and maximum number of batches
BATCHES, PATCHES, MAX_BATCHES = 16, 64, 50
#: maximum number of validation batches for scoring the heads
VALIDATION_BATCHES = 16
#: seed offset beyond that of any epoch
STREAM = 2_000_000_000


@dataclass(frozen=True)
class FittedLevel:
    """The fit of one output layer.

    Attributes
    ----------
    layer : index in `decoder.seg_layers`
    voxels : number of voxels of the fit
    loss_before, loss_after : nnU-Net's loss on these voxels, with the random and with the fitted weights
    absent : outputs whose class or region doesn't occur in the voxels
    copied : outputs with weights copied from the source
    """

    layer: int
    voxels: int
    loss_before: float
    loss_after: float
    absent: tuple[int, ...]
    copied: tuple[int, ...] = ()


@dataclass(frozen=True)
class FittedHeads:
    """The result of a fit.

    Attributes
    ----------
    outputs : names of the classes or regions
    levels : the fitted output layers, the finest last; none if all voxels of the patches are ignored
    patches : number of training patches
    dice : Dice over the validation patches for each class or region without background; None if it doesn't occur
    mean_dice : mean of the defined values
    validation_patches : number of validation patches
    seconds : wall time
    """

    outputs: tuple[str, ...]
    levels: tuple[FittedLevel, ...]
    patches: int
    dice: tuple[float | None, ...]
    mean_dice: float | None
    validation_patches: int
    seconds: float

    def lines(self) -> list[str]:
        """Return the lines for the training log."""
        if not self.levels:
            return [f"Every voxel of {self.patches} training patches is ignored: the output layers stay random."]
        finest = self.levels[-1]
        found = "unknown" if self.mean_dice is None else f"{self.mean_dice:.4f}"
        lines = [
            f"Output layers fitted before the first step, in {self.seconds:.1f} s: "
            f"{counted(finest.voxels, 'voxel')} of {counted(self.patches, 'training patch', 'training patches')}; "
            f"loss {finest.loss_before:.4f} -> {finest.loss_after:.4f}",
            f"Pseudo Dice of the fitted network on {counted(self.validation_patches, 'patch', 'patches')} of validation "
            f"cases: {found}",
        ]
        for indices, what in ((finest.copied, "Taken over from the source by name"), (finest.absent, "In no patch")):
            if indices:
                lines.append(f"{what}: {', '.join(self.outputs[i] for i in indices)}")
        return lines


def fit_output_layers(trainer: NamedTrainer, known: Mapping[int, Rows] | None = None) -> FittedHeads | None:
    """Fit the output layers of a trainer's network in place, the same on all ranks; write and log the result.

    All other weights and the running statistics of BatchNorm don't change. Rank 0 fits, on whole batches, and broadcasts the
    result.

    Parameters
    ----------
    known : output layer -> rows copied from the source; the other rows are fitted. A layer whose known rows are worse than
        constant outputs, such as layers that nnU-Net never trained, is fitted completely.

    Returns
    -------
    FittedHeads or None
        The result on rank 0; None on other ranks, and if the network has no output layers of nnU-Net's type.
    """
    network = unwrapped(trainer.network)
    layers = output_layers(network)
    if not layers:
        trainer.print_to_log_file("The network has no 1x1 convolutions as output layers: nothing is fitted.")
        return None
    done = None
    if trainer.local_rank == 0:
        with one_line_errors(), whole_batches(trainer) as at_once:
            done = _fit(trainer, network, known or {}, at_once)
    if trainer.is_ddp:
        for layer in layers:
            for parameter in layer.parameters():
                dist.broadcast(parameter.data, 0)
    if done:
        write_json(Path(trainer.output_folder) / HEADS_FILE, asdict(done))
        for line in done.lines():
            trainer.print_to_log_file(line)
    return done


def _fit(trainer: NamedTrainer, network: nn.Module, known: Mapping[int, Rows], at_once: int) -> FittedHeads:
    started = perf_counter()
    if trainer.settings.seed is not None:
        seed_everything(trainer.settings.seed, STREAM)
    generator = torch.Generator().manual_seed(trainer.settings.seed or 0)
    manager = trainer.label_manager
    labelling = Labelling(manager.num_segmentation_heads, manager.has_regions, manager.ignore_label)
    terms, by_patch = loss_terms(trainer.loss, labelling)
    channels = [int(layer.in_channels) for layer in output_layers(network)]  # type: ignore[arg-type]
    batches = number_of_batches(trainer.batch_size, channels, labelling.classes)
    levels = collect(
        network,
        islice(trainer.dataloader_train, batches),
        labelling,
        patches=batches * trainer.batch_size,
        by_patch=by_patch,
        device=trainer.device,
        generator=generator,
        at_once=at_once,
    )
    fitted = []
    for number, (layer, level) in enumerate(zip(output_layers(network), levels, strict=True)):
        if len(level):
            voxels = level.voxels(labelling)
            before = _loss_now(layer, voxels, terms)
            head, copied = _head(voxels, terms, known.get(number))
            write_head(layer, head)
            after = _loss_now(layer, voxels, terms)
            fitted.append(FittedLevel(number, len(level), before, after, head.absent, copied))
    if fitted and fitted[-1].layer in known and not fitted[-1].copied:
        trainer.print_to_log_file(
            "The source's outputs for labels of the same name are no better here than constant outputs: all outputs are fitted."
        )
    dice, patches = _validation_dice(trainer, network, at_once)
    met = [d for d in dice if d is not None]
    mean = sum(met) / len(met) if met else None
    seconds = round(perf_counter() - started, 2)
    names = tuple(output_groups(trainer.dataset_json)[0])
    return FittedHeads(names, tuple(fitted), batches * trainer.batch_size, dice, mean, patches, seconds)


def number_of_batches(batch_size: int, channels: Sequence[int], classes: int) -> int:
    """Return the number of batches for a fit.

    Each patch gives at least one voxel of each of its classes. Large batches with many classes are therefore fewer, so that the
    fit stays within its memory.

    Parameters
    ----------
    channels : number of features of each output layer
    """
    count = min(MAX_BATCHES, max(BATCHES, math.ceil(PATCHES / batch_size)))
    while count > 1 and count * batch_size * classes > min(rooms(channels, classes, count * batch_size)):
        count -= 1
    return count


def _head(voxels: Voxels, terms: LossTerms, known: Rows | None) -> tuple[Head, tuple[int, ...]]:
    """Fit a head, keeping known rows if they are useful; return it and the kept rows."""
    if known is not None:
        head = fit_head(voxels, terms, known=known)
        if head.loss < constant_loss(voxels, terms):
            return head, known.classes
    return fit_head(voxels, terms), ()


def loss_terms(loss: Any, labelling: Labelling) -> tuple[LossTerms, bool]:
    """Return the parameters of nnU-Net's compound loss, and whether it computes Dice per patch instead of per batch.

    Parameters that another loss lacks have nnU-Net's values.
    """
    inner = getattr(loss, "loss", loss)  # deep supervision wraps it
    dice = getattr(inner, "dc", None)
    terms = LossTerms(
        cross_entropy=float(getattr(inner, "weight_ce", 1.0)),
        dice=float(getattr(inner, "weight_dice", 1.0)),
        smooth=float(getattr(dice, "smooth", 1e-5)),
        regions=labelling.regions,
        background=bool(getattr(dice, "do_bg", labelling.regions)),
        summed=bool(getattr(inner, "use_ignore_label", False)),
    )
    return terms, not getattr(dice, "batch_dice", True)


def write_head(layer: nn.Module, head: Head) -> None:
    """Write a fitted head into a 1x1 convolution, in place."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    with torch.no_grad():
        weight.copy_(head.weight.reshape(weight.shape))
        bias.copy_(head.bias)


def _loss_now(layer: nn.Module, voxels: Voxels, terms: LossTerms) -> float:
    with torch.no_grad():
        weight, bias = (layer.get_parameter(name).to(voxels.features) for name in ("weight", "bias"))
        return float(loss_of(voxels.features @ weight.flatten(1).T + bias, voxels, terms))


def _validation_dice(trainer: NamedTrainer, network: nn.Module, at_once: int) -> tuple[tuple[float | None, ...], int]:
    """Return nnU-Net's pseudo Dice per class or region on patches of validation cases, and their number."""
    batches = min(VALIDATION_BATCHES, trainer.num_val_iterations_per_epoch)
    kept = trainer.network, trainer.loss
    # skip the loss, which would wait for other processes in distributed training
    trainer.network, trainer.loss = network, lambda *_: torch.zeros(())
    try:
        with torch.no_grad(), batch_statistics(network):
            outputs = [
                trainer.validation_step(part)
                for batch in islice(trainer.dataloader_val, batches)
                for part in parts_of(batch, at_once, network)
            ]
    finally:
        trainer.network, trainer.loss = kept
    hits, false, missed = (np.sum([o[k] for o in outputs], 0) for k in ("tp_hard", "fp_hard", "fn_hard"))
    sizes = 2 * hits + false + missed
    dice = tuple(float(2 * h / s) if s else None for h, s in zip(hits, sizes, strict=True))
    return dice, batches * trainer.batch_size
