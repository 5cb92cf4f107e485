"""Features that output layers are fitted to: those of sampled voxels, with the loss that nnU-Net has on whole patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from nnunet_transfer.finetuning.features import Labelling, Level, batch_statistics, collect
from nnunet_transfer.finetuning.fitted_start import loss_terms
from nnunet_transfer.finetuning.heads import loss_of
from nnunet_transfer.finetuning.sampling import draw_voxels, quotas, strata_of

CHANNELS = 6


class Toy(nn.Module):
    """A U-Net's shape: BatchNorm, dropout, and output layers at two resolutions."""

    def __init__(self, outputs: int, dimensions: int = 2, deep: bool = True) -> None:
        super().__init__()
        conv, norm, drop = (
            (nn.Conv2d, nn.BatchNorm2d, nn.Dropout2d) if dimensions == 2 else (nn.Conv3d, nn.BatchNorm3d, nn.Dropout3d)
        )
        self.stem = nn.Sequential(conv(1, CHANNELS, 3, padding=1), norm(CHANNELS), drop(0.5), nn.ReLU())
        self.pool = nn.AvgPool2d(2) if dimensions == 2 else nn.AvgPool3d(2)
        self.decoder = nn.Module()
        self.decoder.seg_layers = nn.ModuleList(conv(CHANNELS, outputs, 1) for _ in range(2))
        self.deep = deep

    def forward(self, image: torch.Tensor):
        x = self.stem(image)
        low, high = self.decoder.seg_layers
        return [high(x), low(self.pool(x))] if self.deep else high(x)


def batches_of(labelling: Labelling, dimensions: int, deep: bool, count: int = 2) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(count):
        data = torch.randn(3, 1, *[8] * dimensions, generator=generator)
        labels = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), data.numel(), True, generator=generator).reshape(
            data.shape
        )
        data += labels
        if labelling.ignore is not None and not labelling.regions:
            labels[:, :, 0] = labelling.ignore
        if labelling.regions:
            labels = torch.cat([labels > 0, labels > 1], 1)
            if labelling.ignore is not None:
                mask = torch.zeros_like(labels[:, :1])
                mask[:, :, 0] = True
                labels = torch.cat([labels, mask], 1)
        low = labels[(slice(None), slice(None), *[slice(None, None, 2)] * dimensions)]
        batches.append({"data": data, "target": [labels, low] if deep else labels})
    return batches


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize(
    "labelling",
    [Labelling(3), Labelling(3, ignore=3), Labelling(2, regions=True), Labelling(2, regions=True, ignore=3)],
    ids=["classes", "ignore", "regions", "regions, ignore"],
)
def test_what_is_collected_has_nnunets_own_loss(
    dimensions: int, deep: bool, batch_dice: bool, labelling: Labelling
) -> None:
    if labelling.regions:
        host = DC_and_BCE_loss(
            {},
            {"batch_dice": batch_dice, "do_bg": True, "smooth": 1e-5, "ddp": False},
            use_ignore_label=labelling.ignore is not None,
            dice_class=MemoryEfficientSoftDiceLoss,
        )
    else:
        host = DC_and_CE_loss(
            {"batch_dice": batch_dice, "do_bg": False, "smooth": 1e-5, "ddp": False},
            {},
            ignore_label=labelling.ignore,
            dice_class=MemoryEfficientSoftDiceLoss,
        )
    terms, by_patch = loss_terms(host, labelling)
    assert by_patch != batch_dice
    network = Toy(labelling.classes, dimensions, deep)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    batches = batches_of(labelling, dimensions, deep)
    levels = collect(
        network, batches, labelling, patches=6, by_patch=by_patch, device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [len(level) > 0 for level in levels] == [deep, True]
    network.eval()  # no dropout
    for number, (layer, level) in enumerate(zip(network.decoder.seg_layers, levels, strict=True)):
        if not len(level):
            continue
        expected = []
        with torch.no_grad(), batch_statistics(network):
            for batch in batches:
                outputs = network(batch["data"])
                place = 1 - number
                output, target = (outputs[place], batch["target"][place]) if deep else (outputs, batch["target"])
                expected.append(float(host(output, target)))
        voxels = level.voxels(labelling)
        logits = voxels.features @ layer.weight.flatten(1).T + layer.bias
        assert float(loss_of(logits.detach(), voxels, terms)) == pytest.approx(np.mean(expected), abs=1e-5)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d, nn.BatchNorm2d])
def test_a_batch_too_large_for_one_process_passes_the_network_in_parts(norm: type[nn.Module]) -> None:
    network = Toy(3, 2, True)
    network.stem = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, padding=1), norm(CHANNELS, affine=True))
    labelling, passed = Labelling(3), []
    network.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))

    def collected(at_once: int | None) -> list[Level]:
        passed.clear()
        return collect(
            network, batches_of(labelling, 2, True), labelling, patches=6, by_patch=False, device=torch.device("cpu"),
            generator=torch.Generator().manual_seed(0), at_once=at_once,
        )  # fmt: skip

    whole = collected(None)
    assert passed == [3, 3]
    parts = collected(2)
    # BatchNorm has the mean of the whole batch
    assert passed == ([3, 3] if norm is nn.BatchNorm2d else [2, 1, 2, 1])
    for one, other in zip(whole, parts, strict=True):
        assert (one.groups, one.batches) == (other.groups, other.batches)
        for name in ("features", "targets", "weights"):
            pairs = zip(getattr(one, name), getattr(other, name), strict=True)
            assert all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in pairs)


@given(counts=st.lists(st.integers(1, 400), min_size=1, max_size=6), room=st.integers(1, 800), seed=st.integers(0, 9))
def test_drawn_voxels_stand_for_all_of_their_class(counts: list[int], room: int, seed: int) -> None:
    strata = torch.repeat_interleave(torch.arange(len(counts)) * 7, torch.tensor(counts))
    strata = torch.cat([strata, torch.full((5,), -1)])
    strata = strata[torch.randperm(len(strata), generator=torch.Generator().manual_seed(seed))]
    indices, weights = draw_voxels(strata, room, torch.Generator().manual_seed(seed))
    assert len(indices) <= max(room, len(counts))
    assert len(indices) == len(indices.unique())
    assert (strata[indices] >= 0).all()
    for k, count in enumerate(counts):
        own = weights[strata[indices] == 7 * k]
        assert len(own) >= 1
        assert float(own.sum()) == pytest.approx(count, rel=1e-5)
    kept = quotas(counts, room)
    assert all(0 < k <= c for k, c in zip(kept, counts, strict=True))
    # who is cut has no less than anybody else
    assert all(k == c or k + 1 >= max(kept) for k, c in zip(kept, counts, strict=True))


def test_combinations_of_regions_are_strata() -> None:
    combinations = torch.tensor(list(np.ndindex(*[2] * 10)))
    assert len(strata_of(combinations).unique()) == 2**10
