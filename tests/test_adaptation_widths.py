"""Other widths, when asked for: what the source's channels compute stays, and the report counts values, not tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nnunet_transfer.adaptation import AdaptationRules, Target, TransferSettings, transfer_weights
from nnunet_transfer.adaptation.rules import fit_widths
from nnunet_transfer.errors import AdaptationError, SettingsError
from tests.unets import plain, randomised, residual, saved

LEADING = AdaptationRules(widths="leading")


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    torch.manual_seed(0)


def features(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return what the encoder's stages and the decoder's give."""
    outputs: list[torch.Tensor] = []
    stages = [*network.encoder.stages, *network.decoder.stages]
    hooks = [stage.register_forward_hook(lambda _, __, out: outputs.append(out)) for stage in stages]
    with torch.no_grad():
        network.eval()(x)
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.mark.parametrize("make", [residual, plain])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_first_channels_of_a_wider_network_compute_what_the_source_does(
    make: Callable[..., Any], dims: int
) -> None:
    origin = make(dims, features=(4, 6, 8))
    source = saved(origin)
    target = randomised(make(dims, features=(6, 10, 12)))
    report = transfer_weights(target, source, rules=LEADING, minimum_encoder=0)
    x = torch.randn(1, 1, *(16,) * dims)
    for mine, theirs in zip(features(target, x), features(origin, x), strict=True):
        assert mine.shape[1] > theirs.shape[1]
        torch.testing.assert_close(mine[:, : theirs.shape[1]], theirs, rtol=1e-4, atol=1e-4)
    loaded = sum(p.numel() for p in origin.encoder.parameters())
    assert report.coverage["encoder"] == pytest.approx(loaded / sum(p.numel() for p in target.encoder.parameters()))
    assert "width 4→6 (leading)" in report.table()


def test_new_channels_keep_their_own_start() -> None:
    source = saved(residual(features=(4, 6, 8)))
    target = randomised(residual(features=(6, 10, 12)))
    before = target.encoder.stages[1].blocks[0].conv2.conv.weight.clone()
    transfer_weights(target, source, rules=LEADING, minimum_encoder=0)
    after = target.encoder.stages[1].blocks[0].conv2.conv.weight
    assert torch.equal(after[6:], before[6:])
    assert not after[:6, 6:].any()


def test_widths_and_other_rules_work_together() -> None:
    origin = residual(2, features=(4, 6, 8), input_channels=3, norm="BatchNorm2d").eval()
    target = randomised(residual(3, features=(6, 10, 12), input_channels=1, norm="BatchNorm3d")).eval()
    report = transfer_weights(target, saved(origin), rules=LEADING, minimum_encoder=0)
    (stem,) = [d for d in report.decisions if d.key == "encoder.stem.convs.0.conv.weight"]
    assert [step.kind for step in stem.steps] == ["input channels", "inflate", "widths"]
    assert (stem.transferred, stem.parameters) == (4 * 27, 6 * 27)
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        flat = origin.encoder.stem(x.expand(-1, 3, -1, -1))
        deep = target.encoder.stem(x.unsqueeze(2).expand(-1, -1, 9, -1, -1))
    torch.testing.assert_close(deep[:, :4, 4], flat, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("images", "labels", "known"), [(("T1", "FLAIR", "T2"), (), 2), (("T1", "T2"), ("a",), 1), (("T1", "FLAIR"), (), 2)]
)
def test_values_of_guessed_channels_don_t_count_in_a_wider_network_either(
    images: tuple[str, ...], labels: tuple[str, ...], known: int
) -> None:
    source = saved(residual(features=(4, 6, 8), input_channels=2), channel_names=("T1", "FLAIR"))
    target = residual(features=(6, 10, 12), input_channels=len(images) + len(labels))
    described = Target(channel_names=images, label_channels=labels)
    report = transfer_weights(target, source, rules=LEADING, minimum_encoder=0, target=described)
    (stem,) = [d for d in report.decisions if d.key == "encoder.stem.convs.0.conv.weight"]
    assert (stem.transferred, stem.parameters) == (4 * known * 9, 6 * len(images + labels) * 9)


def test_a_narrower_network_takes_the_first_channels() -> None:
    origin = residual(features=(6, 10, 12))
    target = residual(features=(4, 6, 8))
    report = transfer_weights(target, saved(origin), rules=LEADING)
    assert report.coverage == {"stem": 1.0, "encoder": 1.0, "decoder": 1.0}
    mine, theirs = (n.encoder.stages[1].blocks[0].conv2.conv.weight for n in (target, origin))
    assert torch.equal(mine, theirs[:6, :6])
    # behind a skip connection the first channels of both inputs
    mine, theirs = (n.decoder.stages[-1].convs[0].conv.weight for n in (target, origin))
    assert torch.equal(mine, torch.cat([theirs[:4, :4], theirs[:4, 6:10]], 1))


def test_unasked_widths_are_refused_and_asked_ones_need_a_lower_minimum() -> None:
    source = saved(residual(features=(4, 6, 8)))
    with pytest.raises(AdaptationError, match="width 8×8 in the source, 16×16 in the target"):
        transfer_weights(residual(features=(8, 12, 16)), source)
    with pytest.raises(AdaptationError, match=r"only some of the values: width 8×8→16×16 \(leading\)"):
        transfer_weights(residual(features=(8, 12, 16)), source, rules=LEADING)


SIZES = st.integers(1, 5)


@given(
    old=st.tuples(SIZES, SIZES),
    new=st.tuples(SIZES, SIZES),
    shares=st.sampled_from([(1,), (1, 1), (2, 1)]),
    transposed=st.booleans(),
)
def test_each_value_comes_from_one_place(
    old: tuple[int, int], new: tuple[int, int], shares: tuple[int, ...], transposed: bool
) -> None:
    groups = sum(shares)
    (a, b), (c, d) = ((out, groups * inputs) for out, inputs in (old, new))
    weight, own = torch.full((a, b, 3), 2.0), torch.full((c, d, 3), 3.0)
    if transposed:
        weight, own = weight.transpose(0, 1), own.transpose(0, 1)
    fitted = fit_widths(weight, own, "leading", shares, transposed)
    assert fitted.shape == own.shape
    if transposed:
        fitted = fitted.transpose(0, 1)
    assert (own == 3).all()
    assert (fitted == 2).sum() == 3 * groups * min(old[0], new[0]) * min(old[1], new[1])
    assert (fitted[old[0] :] == 3).all()
    assert not (fitted[: old[0]] == 3).any()


def test_a_part_s_channels_stay_in_front_of_it() -> None:
    """Twice as many channels from below as from the side: 4 and 2 of them become 6 and 3."""
    weight = torch.arange(1.0, 7).reshape(1, 6, 1)
    fitted = fit_widths(weight, torch.full((1, 9, 1), 9.0), "leading", (2, 1), False)
    assert fitted.flatten().tolist() == [1, 2, 3, 4, 0, 0, 5, 6, 0]


def test_settings_are_what_a_user_types_and_plans_hold() -> None:
    typed = TransferSettings.from_words(["inflation=centre", "widths=leading", "minimum_encoder=0.2"])
    assert (typed.rules.inflation, typed.rules.widths, typed.rules.kernel) == ("centre", "leading", "sum")
    assert typed.minimum_encoder == 0.2
    assert TransferSettings.from_dict(typed.to_dict()) == typed
    assert TransferSettings.from_dict({}) == TransferSettings()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("centre", "write NAME=VALUE"),
        ("inflate=centre", "there is no rule inflate; there are: input_channels"),
        ("inflation=center", "there are: mean, centre"),
        ("widths=yes", "there are: refuse, leading"),
        ("minimum_encoder=much", "a number from 0 to 1"),
        ("minimum_encoder=nan", "a number from 0 to 1"),
        ("minimum_encoder=90", "a number from 0 to 1"),
    ],
)
def test_wrong_settings_are_one_line(word: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TransferSettings.from_words([word])
