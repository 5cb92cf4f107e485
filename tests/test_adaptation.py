"""Putting weights into networks that differ: every rule against its invariant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnunet_transfer.adaptation import AdaptationRules, Target, transfer_weights
from nnunet_transfer.adaptation.rules import INFLATION_RULES, INPUT_CHANNEL_RULES, KERNEL_RULES, fit_transposed_kernel
from tests.unets import plain, residual, saved, saved_unchanged, snapshot

NetworkMaker = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    torch.manual_seed(0)
    return tmp_path / "sources"


@pytest.mark.parametrize("make", [residual, plain])
@pytest.mark.parametrize("dims", [2, 3])
def test_identity_is_bit_equal_through_every_alias_except_the_heads(make: NetworkMaker, dims: int) -> None:
    origin = make(dims)
    source = saved(origin)
    target = make(dims)
    heads = {k: v.clone() for k, v in target.state_dict().items() if "seg_layers" in k}
    report = transfer_weights(target, source)
    assert report.coverage == {"stem": 1.0, "encoder": 1.0, "decoder": 1.0}
    for key, value in target.state_dict().items():
        assert torch.equal(value, heads[key] if key in heads else origin.state_dict()[key]), key
    x = torch.randn(1, 1, *(16,) * dims)
    for mine, theirs in zip(target.encoder(x), origin.encoder(x), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("make", [residual, plain])
def test_encoder_scope_leaves_the_decoder(make: NetworkMaker) -> None:
    source = saved(make())
    target = make()
    before = snapshot(target.decoder.stages)
    report = transfer_weights(target, source, scope="encoder")
    assert report.coverage == {"stem": 1.0, "encoder": 1.0, "decoder": 0.0}
    assert all(torch.equal(v, before[k]) for k, v in target.decoder.stages.state_dict().items())
    assert {d.reason for d in report.decisions if d.part == "decoder"} == {"only the encoder was asked for"}


@pytest.mark.parametrize("rule", ["mean", "repeat"])
@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 4), (4, 3), (2, 5)])
def test_input_channels_keep_the_response_to_equal_channels(rule: str, before: int, after: int) -> None:
    origin = residual(input_channels=before)
    source = saved(origin)
    target = residual(input_channels=after)
    report = transfer_weights(target, source, rules=AdaptationRules(input_channels=rule))
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(
        target.encoder.stem(x.expand(-1, after, -1, -1)), origin.encoder.stem(x.expand(-1, before, -1, -1))
    )
    (stem,) = [d for d in report.decisions if d.key == "encoder.stem.convs.0.conv.weight"]
    assert str(stem.steps[0]) == f"input channels {before}→{after} ({rule})"
    assert stem.status == "adapted"


def test_sum_over_input_channels_is_the_sum() -> None:
    weight = torch.randn(2, 3, 3, 3)
    torch.testing.assert_close(INPUT_CHANNEL_RULES["sum"](weight, 1)[:, 0], weight.sum(1))


def test_repeat_deals_channels_in_turn() -> None:
    weight = torch.tensor([[1.0, 2.0, 4.0]])[..., None]
    assert INPUT_CHANNEL_RULES["repeat"](weight, 4)[0, :, 0].tolist() == [0.5, 2.0, 4.0, 0.5]
    assert INPUT_CHANNEL_RULES["repeat"](weight, 2)[0, :, 0].tolist() == [5.0, 2.0]


def test_channels_are_matched_by_name() -> None:
    origin = residual(input_channels=3)
    source = saved(origin, channel_names=("T1w", "T2w", "FLAIR"))
    target = residual(input_channels=2)
    transfer_weights(target, source, target=Target(channel_names=("flair", "DWI")))
    weight, theirs = target.encoder.stem.convs[0].conv.weight, origin.encoder.stem.convs[0].conv.weight
    assert torch.equal(weight[:, 0], theirs[:, 2])
    assert torch.equal(weight[:, 1], theirs.mean(dim=1))
    target = residual(input_channels=3)
    report = transfer_weights(target, source, target=Target(channel_names=("T2w", "T1w", "FLAIR")))
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(target.encoder(x)[-1], origin.encoder(x[:, [1, 0, 2]])[-1])
    assert "by name" in report.table()


@pytest.mark.parametrize("names", [None, ["a", "b", "c"], ["T1", "T1", "T1"], ["T1w", "T2w", "FLAIR"], ["T1w"]])
def test_channels_stay_in_order_without_a_usable_name(names: list[str] | None) -> None:
    origin = residual(input_channels=3)
    source = saved(origin, channel_names=("T1w", "T2w", "FLAIR"))
    target = residual(input_channels=3)
    transfer_weights(target, source, target=Target(channel_names=tuple(names or ())))
    assert torch.equal(target.encoder.stem.convs[0].conv.weight, origin.encoder.stem.convs[0].conv.weight)


@pytest.mark.parametrize("rule", list(INFLATION_RULES))
@pytest.mark.parametrize("make", [residual, plain])
def test_inflated_networks_agree_on_volumes_constant_along_the_new_axis(make: NetworkMaker, rule: str) -> None:
    origin = make(2).eval()
    source = saved(origin)
    target = make(3).eval()
    report = transfer_weights(target, source, rules=AdaptationRules(inflation=rule))
    assert report.coverage["encoder"] == report.coverage["decoder"] == 1.0
    for seg_3d, seg_2d in zip(target.decoder.seg_layers, origin.decoder.seg_layers, strict=True):
        seg_3d.weight.data.copy_(seg_2d.weight.data.unsqueeze(2))
        seg_3d.bias.data.copy_(seg_2d.bias.data)
    # instance norm sees the zero-padded border of the volume; without norms the middle must agree exactly
    for network in (origin, target):
        for module in network.modules():
            for name in ("norm", "all_modules"):
                child = getattr(module, name, None)
                if isinstance(child, nn.Sequential):
                    for i, op in enumerate(child):
                        if isinstance(op, nn.modules.instancenorm._InstanceNorm):
                            child[i] = nn.Identity()
    x = torch.randn(1, 1, 16, 16)
    volume = x.unsqueeze(2).expand(-1, -1, 64, -1, -1)
    with torch.no_grad():
        flat, deep = origin.double()(x.double()), target.double()(volume.double())
    torch.testing.assert_close(deep[:, :, 32], flat, rtol=1e-6, atol=1e-6)  # weight / 3 is rounded to single precision


def test_flattening_undoes_inflation() -> None:
    origin = residual(2)
    middle = residual(3)
    transfer_weights(middle, saved(origin))
    source = saved_unchanged(middle)
    target = residual(2)
    transfer_weights(target, source)
    for key, value in target.state_dict().items():
        if "seg_layers" not in key:
            torch.testing.assert_close(value, origin.state_dict()[key])


@settings(deadline=None)
@given(before=st.sampled_from([1, 3, 5, 7]), after=st.sampled_from([1, 3, 5, 7]), seed=st.integers(0, 2**16))
def test_kernel_sum_keeps_the_response_to_constant_input(before: int, after: int, seed: int) -> None:
    weight = torch.randn(2, 3, before, 3, generator=torch.Generator().manual_seed(seed))
    fitted = KERNEL_RULES["sum"](weight, 2, after)
    assert fitted.shape == (2, 3, after, 3)
    torch.testing.assert_close(fitted.sum(2), weight.sum(2))


@settings(deadline=None)
@given(before=st.sampled_from([1, 3]), seed=st.integers(0, 2**16))
def test_a_grown_kernel_is_the_same_function(before: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(2, 1, before, generator=generator)
    x = torch.randn(1, 1, 20, generator=generator)
    for rule in KERNEL_RULES.values():
        grown = rule(weight, 2, 5)
        torch.testing.assert_close(
            nn.functional.conv1d(x, grown, padding=2), nn.functional.conv1d(x, weight, padding=before // 2)
        )


def test_kernel_mean_is_the_mean() -> None:
    weight = torch.randn(2, 3, 3, 3)
    torch.testing.assert_close(KERNEL_RULES["mean"](weight, 2, 1)[:, :, 0], weight.mean(2))


@settings(max_examples=30, deadline=None)
@given(before=st.tuples(*[st.integers(1, 3)] * 2), after=st.tuples(*[st.integers(1, 3)] * 2))
def test_transposed_kernels_keep_constant_input(before: tuple[int, int], after: tuple[int, int]) -> None:
    weight = torch.randn(2, 3, *before, generator=torch.Generator().manual_seed(1))
    # a constant image upsampled by kernel = stride: its mean over the outputs doesn't depend on the kernel
    x = torch.ones(1, 2, 2, 2)
    old = nn.functional.conv_transpose2d(x, weight, stride=before).mean((2, 3))
    new = nn.functional.conv_transpose2d(x, fit_transposed_kernel(weight, after), stride=after).mean((2, 3))
    torch.testing.assert_close(new, old)


def test_anisotropic_kernels_are_fitted_axis_by_axis() -> None:
    origin = residual(3, kernel_sizes=3)
    source = saved(origin)
    target = residual(3, kernel_sizes=[(1, 3, 3), (3, 3, 3), (3, 3, 3)], strides=[(1, 1, 1), (1, 2, 2), (2, 2, 2)])
    report = transfer_weights(target, source)
    assert report.coverage["encoder"] == 1.0
    torch.testing.assert_close(
        target.encoder.stem.convs[0].conv.weight[:, :, 0], origin.encoder.stem.convs[0].conv.weight.sum(2)
    )
    assert "kernel 3×3×3→1×3×3 (sum)" in report.table()


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.parametrize("make", [residual, plain])
def test_other_numbers_of_stages_agree_at_full_resolution(make: NetworkMaker, stages: int) -> None:
    widths = (4, 6, 8, 8)
    origin = make(features=widths[:3])
    source = saved(origin)
    target = make(features=widths[:stages])
    report = transfer_weights(target, source, minimum_encoder=0.3)
    x = torch.randn(1, 1, 16, 16)
    common = min(stages, 3)
    for mine, theirs in zip(target.encoder(x)[:common], origin.encoder(x)[:common], strict=True):
        assert torch.equal(mine, theirs)
    # counted from full resolution, the last decoder stage of both
    assert torch.equal(target.decoder.transpconvs[-1].weight, origin.decoder.transpconvs[-1].weight)
    assert torch.equal(target.decoder.stages[-1].convs[0].conv.weight, origin.decoder.stages[-1].convs[0].conv.weight)
    assert (report.coverage["encoder"] == 1.0) == (stages < 3)
    assert (report.coverage["decoder"] == 1.0) == (stages < 3)


def test_batchnorm_gives_instance_norm_its_affine_part() -> None:
    origin = residual(norm="BatchNorm2d")
    source = saved(origin)
    target = residual()
    report = transfer_weights(target, source)
    assert torch.equal(target.encoder.stem.convs[0].norm.weight, origin.encoder.stem.convs[0].norm.weight)
    norm = next(d for d in report.decisions if d.key == "encoder.stem.convs.0.norm.weight")
    assert "running statistics dropped" in str(norm.steps[-1])
    dropped = [d for d in report.decisions if d.key.endswith("running_mean")]
    assert dropped
    assert all(d.status == "unused" and d.parameters == 0 for d in dropped)


def test_batchnorm_keeps_its_running_statistics() -> None:
    origin = residual(norm="BatchNorm2d").eval()
    target = residual(norm="BatchNorm2d").eval()
    transfer_weights(target, saved(origin))
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(target.encoder(x)[-1], origin.encoder(x)[-1])


def test_wrapped_networks_and_wrapped_sources() -> None:
    origin = residual()
    source = saved(nn.ModuleDict({"module": nn.ModuleDict({"_orig_mod": origin})}))
    target = residual()
    report = transfer_weights(nn.ModuleDict({"_orig_mod": target}), source)
    assert report.coverage["encoder"] == 1.0
    assert torch.equal(target.encoder.stem.convs[0].conv.weight, origin.encoder.stem.convs[0].conv.weight)


def test_half_precision_sources_are_widened() -> None:
    origin = residual()
    source = saved(origin.half())
    target = residual()
    transfer_weights(target, source)
    assert target.encoder.stem.convs[0].conv.weight.dtype == torch.float32
    assert torch.equal(target.encoder.stem.convs[0].conv.weight.half(), origin.encoder.stem.convs[0].conv.weight)
