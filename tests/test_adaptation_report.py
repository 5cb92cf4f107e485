"""What a transfer decides, refuses and reports."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnunet_transfer.adaptation import AdaptationRules, Target, transfer_weights
from nnunet_transfer.adaptation.decisions import decide
from nnunet_transfer.adaptation.steps import apply_steps
from nnunet_transfer.errors import AdaptationError, SettingsError
from tests.unets import plain, residual, saved, saved_unchanged, snapshot


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    torch.manual_seed(0)
    return tmp_path / "sources"


def test_the_report_accounts_for_every_tensor_once(tmp_path: Path) -> None:
    source = saved(residual(input_channels=3, num_classes=5), trained_on=("Dataset007_A",), licence="CC0")
    target = residual(blocks=2)
    report = transfer_weights(target, source, minimum_encoder=0.1)
    report.write(tmp_path / "transfer_report.json")
    content = json.loads((tmp_path / "transfer_report.json").read_text())
    assert content["source"] == "s"
    assert content["sha256"] == source.card.sha256
    assert (content["licence"], content["trained_on"]) == ("CC0", ["Dataset007_A"])
    own = [t for t in content["tensors"] if t["target_shape"]]
    assert sum(t["parameters"] for t in own) == sum(p.numel() for p in target.parameters())
    assert len(own) == len(list(target.parameters()))
    taken = {t["source_key"] for t in own if t["status"] in ("loaded", "adapted")}
    unused = {t["key"] for t in content["tensors"] if t["status"] == "unused"}
    assert not taken & unused
    assert taken | unused == set(source.tensors())
    assert all(t["reason"] for t in content["tensors"] if t["status"] in ("initialised", "unused"))
    table = report.table()
    assert "CC0; trained on Dataset007_A" in table
    assert "segmentation heads belong to the source's labels" in table
    assert len(table.splitlines()) < 20


def test_the_report_warns_of_subjects_that_the_source_has_seen() -> None:
    source = saved(residual(), trained_on=("OpenMind",))
    report = transfer_weights(residual(), source, target=Target("Dataset012_SOOP"))
    assert "WARNING: the source's data set OpenMind may share subjects with Dataset012_SOOP" in report.table()
    assert report.to_dict()["warnings"] == list(report.warnings)
    assert transfer_weights(residual(), source, target=Target("Dataset012_Other")).warnings == ()


@pytest.mark.parametrize(
    ("origin", "target", "message"),
    [
        (lambda: plain(), lambda: residual(), "a plain encoder, the network a residual encoder"),
        (lambda: residual(), lambda: plain(), "a residual encoder, the network a plain encoder"),
        (lambda: residual(features=(4, 6, 8)), lambda: residual(features=(8, 12, 16)), "width 4×1 .* 8×1|width 8×6"),
        (lambda: residual(), lambda: residual(bottleneck=True), "only .* fit"),
        (lambda: residual(features=(4, 6)), lambda: residual(), "the source has no such tensor"),
        (lambda: nn.Linear(2, 2), lambda: residual(), "no nnU-Net encoder"),
    ],
)
def test_refusals_say_why_and_leave_the_network_as_it_was(
    origin: Callable[[], nn.Module], target: Callable[[], nn.Module], message: str
) -> None:
    source = saved_unchanged(origin())
    network = target()
    before = snapshot(network)
    with pytest.raises(AdaptationError, match=message) as caught:
        transfer_weights(network, source)
    assert "nnunet_transfer plan --source s3" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_networks_that_are_no_unet_of_nnunet_are_refused() -> None:
    with pytest.raises(AdaptationError, match="no nnU-Net encoder"):
        transfer_weights(nn.Conv2d(1, 1, 3), saved(residual()))


def test_unknown_rules_and_scopes_are_refused() -> None:
    with pytest.raises(SettingsError, match="there are: mean, sum, repeat"):
        AdaptationRules(input_channels="median")
    with pytest.raises(SettingsError, match="unknown scope 'all'"):
        transfer_weights(residual(), saved(residual()), scope="all")  # type: ignore[arg-type]


def test_the_same_source_gives_the_same_network_everywhere() -> None:
    source = saved(residual(input_channels=3))
    first = residual()
    second = copy.deepcopy(first)
    reports = [transfer_weights(n, source) for n in (first, second)]
    assert reports[0] == reports[1]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


KEYS = st.sampled_from(
    [
        "encoder.stem.convs.0.conv.weight",
        "encoder.stem.convs.0.norm.weight",
        "encoder.stem.convs.0.norm.running_mean",
        *(f"encoder.stages.{s}.blocks.0.conv1.conv.weight" for s in range(3)),
        *(f"decoder.transpconvs.{s}.weight" for s in range(2)),
        *(f"decoder.stages.{s}.convs.0.conv.weight" for s in range(2)),
        "decoder.seg_layers.0.weight",
        "classifier.weight",
    ]
)
STATES = st.dictionaries(KEYS, st.lists(st.integers(1, 4), max_size=5).map(tuple), max_size=10)


@settings(deadline=None)
@given(source=STATES, target=STATES)
def test_any_two_state_dicts_are_decided_completely_and_what_is_promised_fits(
    source: dict[str, tuple[int, ...]], target: dict[str, tuple[int, ...]]
) -> None:
    decisions = decide(source, target)
    assert [d.key for d in decisions if d.target_shape is not None] == list(target)
    taken = [d.source_key for d in decisions if d.status in ("loaded", "adapted")]
    assert len(taken) == len(set(taken))
    assert sorted([*taken, *(d.key for d in decisions if d.status == "unused")]) == sorted(source)
    for d in decisions:
        if d.status in ("loaded", "adapted"):
            assert (
                apply_steps(torch.zeros(source[d.source_key]), torch.zeros(d.target_shape), d.steps).shape
                == d.target_shape
            )
        else:
            assert d.reason
