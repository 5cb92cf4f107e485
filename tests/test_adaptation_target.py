"""What the target reads: label channels of a cascade, channels that start at 0, and notes on what differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnunet_transfer.adaptation import AdaptationRules, Target, transfer_weights
from nnunet_transfer.errors import SettingsError
from tests.unets import residual, saved

T1 = {"channel_names": ("T1",)}
LESION = Target(channel_names=("T1",), label_channels=("lesion", "edema"))


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    torch.manual_seed(0)


@pytest.mark.parametrize("rule", ["mean", "sum", "repeat"])
@pytest.mark.parametrize("names", [("T1",), ()])
def test_label_channels_start_at_0_whatever_the_rule_for_images(rule: str, names: tuple[str, ...]) -> None:
    origin = residual()
    source, target = saved(origin, channel_names=names), residual(input_channels=3)
    report = transfer_weights(target, source, rules=AdaptationRules(input_channels=rule), target=LESION)
    image, labels = torch.randn(1, 1, 16, 16), torch.rand(1, 2, 16, 16).round()
    assert torch.equal(target.encoder.stem(torch.cat([image, labels], 1)), origin.encoder.stem(image))
    assert report.channels_at_zero == ("lesion (label of the previous stage)", "edema (label of the previous stage)")
    assert "start at 0: lesion (label of the previous stage), edema" in report.table()
    (stem,) = [d for d in report.decisions if d.key == "encoder.stem.convs.0.conv.weight"]
    assert stem.transferred == stem.parameters // 3


def test_a_cascade_as_source_gives_its_image_channels() -> None:
    origin = residual(input_channels=3)
    source = saved(origin, **T1, extra={"label_channels": 2})
    target = residual(input_channels=1)
    transfer_weights(target, source, target=Target(channel_names=("T1",)))
    assert torch.equal(target.encoder.stem.convs[0].conv.weight, origin.encoder.stem.convs[0].conv.weight[:, :1])
    # from one cascade to another the labels differ
    target = residual(input_channels=3)
    transfer_weights(target, source, target=LESION)
    weight = target.encoder.stem.convs[0].conv.weight
    assert torch.equal(weight[:, :1], origin.encoder.stem.convs[0].conv.weight[:, :1])
    assert not weight[:, 1:].any()


def test_channels_that_the_source_does_not_have_are_named() -> None:
    source = saved(residual(), **T1)
    target = residual(input_channels=2)
    report = transfer_weights(target, source, target=Target(channel_names=("t1", "DWI")))
    weight = target.encoder.stem.convs[0].conv.weight
    assert torch.equal(weight[:, 0], weight[:, 1])  # of one channel the mean is the channel
    assert (report.channels_at_zero, report.channels_guessed) == ((), ("DWI",))
    assert report.to_dict()["channels_guessed"] == ["DWI"]
    assert any("start with the mean of its own: DWI" in text for text in report.warnings)
    (stem,) = [d for d in report.decisions if d.key == "encoder.stem.convs.0.conv.weight"]
    assert stem.transferred == stem.parameters // 2  # a guess is not loaded
    fed = transfer_weights(residual(input_channels=2), source, target=Target(channel_names=("DWI", "FLAIR")))
    assert (fed.channels_at_zero, fed.channels_guessed) == ((), ())


def test_new_channels_start_at_0_if_asked_to() -> None:
    origin = residual()
    target = residual(input_channels=2)
    report = transfer_weights(
        target,
        saved(origin, **T1),
        rules=AdaptationRules(new_channels="zero"),
        target=Target(channel_names=("DWI", "T1")),
    )
    image = torch.randn(1, 1, 16, 16)
    dwi = torch.randn(1, 1, 16, 16)
    assert torch.equal(target.encoder.stem(torch.cat([dwi, image], 1)), origin.encoder.stem(image))
    assert (report.channels_at_zero, report.channels_guessed) == (("DWI",), ())
    assert any("start at 0: DWI" in text for text in report.warnings)
    with pytest.raises(SettingsError, match="new channels"):
        AdaptationRules(new_channels="noise")


def test_what_differs_is_noted() -> None:
    source = saved(
        residual(3),
        channel_names=("CT",),
        normalization_schemes=("CTNormalization",),
        spacing=(3.0, 0.5, 0.5),
        patch_size=(16, 64, 64),
    )
    target = Target("Dataset001_X", ("T1",), (), ("ZScoreNormalization",), (1.0, 1.0, 1.0), (32, 32, 32))
    notes = transfer_weights(residual(3), source, target=target).notes
    for text in ("channels: CT ", "normalisation: CTNormalization ", "spacing: 3×0.5×0.5 mm ", "patch size: 16×64×64 "):
        assert any(note.startswith(text) and note.endswith("here") for note in notes), text
    same = Target("Dataset001_X", ("ct",), (), ("CTNormalization",), (3.01, 0.5, 0.5), (16, 64, 64))
    assert transfer_weights(residual(3), source, target=same).notes == ()
    assert transfer_weights(residual(3), source).notes == ()
