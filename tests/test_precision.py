"""What needs float64 on a device that has none: fitting output layers, and the scores of pretrainers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nnunet_transfer.finetuning.features import Labelling, collect
from nnunet_transfer.finetuning.fitted_start import _loss_now, write_head
from nnunet_transfer.finetuning.heads import LossTerms, Rows, fit_head
from nnunet_transfer.pretraining.classification.heads import ValueHead
from nnunet_transfer.pretraining.self_supervised.contrastive_scores import alignments, retrieved, uniformity
from nnunet_transfer.pretraining.self_supervised.losses import ReconstructionError
from nnunet_transfer.training import precision
from nnunet_transfer.training.precision import doubled, precise_device
from tests.pretend_device import DEVICE, Elsewhere, WithoutDoubles, values_of

CPU = torch.device("cpu")
CHANNELS = 4


@pytest.fixture
def _no_doubles_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pretended device be of a type without float64."""
    monkeypatch.setattr(precision, "SINGLE_PRECISION", frozenset((DEVICE.type,)))


class Blurred(nn.Module):
    """A network with one output layer, on the features of a fixed filter."""

    def __init__(self, *, elsewhere: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.filter = torch.randn(CHANNELS, 1, 3, 3, generator=generator)
        self.decoder = nn.Module()
        layer = nn.Conv2d(CHANNELS, 3, 1)
        values = [torch.randn(p.shape, generator=generator) for p in layer.parameters()]
        if elsewhere:
            self.filter, *values = (Elsewhere(t) for t in (self.filter, *values))
        layer.weight, layer.bias = (nn.Parameter(t, requires_grad=False) for t in values)
        self.decoder.seg_layers = nn.ModuleList([layer])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.decoder.seg_layers[0](nn.functional.conv2d(image, self.filter, padding=1))


def _fitted(network: Blurred, device: torch.device) -> tuple[float, float, torch.Tensor]:
    """Fit the output layer as a trainer does; return the loss before and after, and the weights."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (4, 1, 16, 16), generator=generator)
    batches = [{"data": labels + torch.randn(labels.shape, generator=generator), "target": labels}]
    (level,) = collect(
        network, batches, Labelling(3), patches=16, by_patch=False, device=device,
        generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    voxels, layer = level.voxels(Labelling(3)), network.decoder.seg_layers[0]
    before = _loss_now(layer, voxels, LossTerms())
    known = Rows((1,), layer.weight.flatten(1)[1:2], layer.bias[1:2])
    for head in (fit_head(voxels, known=known, iterations=2), fit_head(voxels, iterations=10)):
        write_head(layer, head)
    return before, _loss_now(layer, voxels, LossTerms()), layer.weight


@pytest.mark.usefixtures("_no_doubles_there")
def test_output_layers_are_fitted_where_there_is_no_float64() -> None:
    here = _fitted(Blurred(elsewhere=False), CPU)
    with WithoutDoubles():
        there = _fitted(Blurred(elsewhere=True), DEVICE)
    assert there[2].device == DEVICE
    assert there[0] == pytest.approx(here[0])
    assert there[1] == pytest.approx(here[1])
    assert there[1] < there[0]
    torch.testing.assert_close(torch.from_numpy(values_of(there[2])), here[2])


@pytest.mark.usefixtures("_no_doubles_there")
def test_pretrainers_score_where_there_is_no_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    image, output = torch.randn(2, 3, 1, 8, 8, generator=generator)
    mask = torch.rand(3, 1, 8, 8, generator=generator) < 0.5
    projections = torch.randn(6, 5, generator=generator)
    head = SimpleNamespace(deviation=2.0, mean=40.0)

    def scores(*tensors: torch.Tensor) -> list[torch.Tensor | float | None]:
        output, image, mask, projections = tensors
        error = ReconstructionError.measure(output, image, mask)
        values = ValueHead.predictions(head, projections).cpu()  # type: ignore[arg-type]
        return [error.mse, error.mae, error.explained_variance, retrieved(projections), alignments(projections),
                uniformity(projections), values]  # fmt: skip

    here = scores(output, image, mask, projections)
    with WithoutDoubles():
        there = scores(*(Elsewhere(t) for t in (output, image, mask, projections)))
    torch.testing.assert_close(there, here)


def test_only_devices_without_float64_are_left() -> None:
    assert precise_device(torch.device("mps")) == CPU
    assert precise_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert doubled(torch.ones(2)).dtype == torch.float64
