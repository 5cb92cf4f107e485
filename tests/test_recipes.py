"""The schedules: pure functions of the epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transfer import naming
from nnunet_transfer.errors import DataError
from nnunet_transfer.finetuning.parameters import (
    parameter_groups,
    part_of,
    read_start,
    save_start,
    set_trained,
)
from nnunet_transfer.recipes import DECODER_ALONE, HEAD, RECIPES, STEM, WHOLE


def test_fitted_is_the_default_of_arms_and_pretrainers_have_their_own_schedule() -> None:
    assert naming.parse_trainer_name("nnUNetTrainerScratch").recipe == "fitted"
    assert naming.parse_trainer_name(f"{naming.TRANSFER}_5epochs").recipe == "fitted"
    assert naming.parse_trainer_name(naming.SEGMENTATION_PRETRAINER).own_schedule
    fitted = naming.parse_trainer_name(f"{naming.SEGMENTATION_PRETRAINER}_fitted")
    assert (fitted.recipe, str(fitted)) == ("fitted", f"{naming.SEGMENTATION_PRETRAINER}_fitted")


def test_full_is_nnunets_own_schedule() -> None:
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.01)
    host = PolyLRScheduler(optimizer, 0.01, 20)
    for epoch in range(20):
        host.step(epoch)
        expected = optimizer.param_groups[0]["lr"]
        assert 0.01 * RECIPES["full"].at(epoch, 20).factor == pytest.approx(expected, rel=1e-12)


def test_warmup_rises_for_fifty_of_a_thousand_epochs() -> None:
    factors = [RECIPES["warmup"].at(epoch, 1000).factor for epoch in range(1000)]
    assert factors[0] == pytest.approx(1 / 51)
    assert factors[:51] == sorted(factors[:51])
    assert factors[50] == 1.0
    assert factors[50:] == sorted(factors[50:], reverse=True)


def test_sawtooth_has_four_stages() -> None:
    recipe = RECIPES["sawtooth"]
    assert recipe.boundaries(1000) == (0, 25, 50, 100, 1000)
    assert [recipe.at(e, 1000).trained for e in (0, 24, 25, 49, 50, 99, 100, 999)] == [DECODER_ALONE] * 4 + [WHOLE] * 4


def test_linear_probing_trains_the_output_layers_alone() -> None:
    trained = [RECIPES["lpft"].at(epoch, 100).trained for epoch in range(100)]
    assert trained == [frozenset({HEAD})] * 10 + [WHOLE] * 90


def test_a_short_training_says_which_phases_it_leaves_out() -> None:
    assert [RECIPES["lpft"].left_out(epochs) for epochs in (3, 5, 9, 10)] == [
        ("output layers", "whole warm-up"),
        ("output layers",),
        ("whole warm-up",),
        (),
    ]


def test_the_stem_is_frozen_for_a_tenth() -> None:
    trained = [RECIPES["frozenStem"].at(epoch, 100).trained for epoch in range(100)]
    assert trained == [WHOLE - {STEM}] * 10 + [WHOLE] * 90


def test_weights_to_pull_towards_that_are_missing_or_cut_off_are_named(tmp_path: Path) -> None:
    file, network = tmp_path / "start.safetensors", _UNet()
    with pytest.raises(DataError, match=r"start.safetensors is missing"):
        read_start(file)
    save_start(network, file)
    assert read_start(file).keys() == {name for name, _ in network.named_parameters() if "seg_layers" not in name}
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"start.safetensors can't be read \(.*must start again"):
        read_start(file)


def test_a_gentle_body_learns_at_a_tenth_of_the_heads_rate() -> None:
    network = _UNet()
    groups = parameter_groups(network, RECIPES["gentleBody"], 0.01)
    scale = {id(p): g["lr_scale"] for g in groups for p in g["params"]}
    named = {n: scale[id(p)] for n, p in network.named_parameters()}
    assert {s for n, s in named.items() if "seg_layers" in n} == {1.0}
    assert {s for n, s in named.items() if "seg_layers" not in n} == {0.1}
    assert groups[0]["lr_scale"] == 1.0, "nnU-Net logs the first group's rate"


def test_frozen_encoder_never_trains_the_encoder() -> None:
    assert {RECIPES["frozenEncoder"].at(e, 100).trained for e in range(100)} == {DECODER_ALONE}


@given(recipe=st.sampled_from(sorted(RECIPES)), epochs=st.integers(1, 2000), data=st.data())
def test_every_epoch_has_a_phase_and_a_sane_learning_rate(recipe: str, epochs: int, data: st.DataObject) -> None:
    epoch = data.draw(st.integers(0, epochs - 1))
    state = RECIPES[recipe].at(epoch, epochs)
    assert 0 < state.factor <= 1
    assert state.trained


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda r: r.name)
def test_shares_add_up_and_the_last_phase_always_runs(recipe) -> None:
    assert sum(phase.share for phase in recipe.phases) == pytest.approx(1)
    for epochs in range(1, 60):
        edges = recipe.boundaries(epochs)
        assert list(edges) == sorted(edges)
        assert edges[-2] < edges[-1] == epochs


class _UNet(torch.nn.Module):
    """The shape of nnU-Net's networks: the decoder repeats the encoder as a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Module()
        self.encoder.stem = torch.nn.Linear(1, 1)
        self.encoder.stages = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(3))
        self.decoder = torch.nn.Module()
        self.decoder.encoder = self.encoder
        self.decoder.seg_layers = torch.nn.ModuleList([torch.nn.Linear(1, 1)])


def test_layerwise_rates_fall_from_the_output_to_the_stem() -> None:
    network = _UNet()
    groups = parameter_groups(network, RECIPES["layerwise"], 3e-5)
    scale = {id(p): g["lr_scale"] for g in groups for p in g["params"]}
    named = {n: scale[id(p)] for n, p in network.named_parameters()}
    assert groups[0]["lr_scale"] == 1.0
    assert named["decoder.seg_layers.0.weight"] == 1.0
    assert named["encoder.stages.2.weight"] == pytest.approx(0.75)
    assert named["encoder.stages.0.weight"] == pytest.approx(0.75**3)
    assert named["encoder.stem.weight"] == pytest.approx(0.75**4)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda r: r.name)
def test_groups_hold_every_parameter_once(recipe) -> None:
    network = _UNet()
    ids = [id(p) for g in parameter_groups(network, recipe, 3e-5) for p in g["params"]]
    assert sorted(ids) == sorted(id(p) for p in network.parameters())


def test_the_decoders_alias_of_the_encoder_is_frozen_with_it() -> None:
    network = _UNet()
    assert set_trained(network, DECODER_ALONE)
    assert not any(p.requires_grad for p in network.encoder.parameters())
    assert all(p.requires_grad for p in network.decoder.seg_layers.parameters())
    assert not set_trained(network, DECODER_ALONE)
    assert part_of("decoder.encoder.stages.0.weight") == "encoder"
