"""Published ResNets: the features are those of timm and torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from nnunet_transfer.adaptation import AdaptationRules, transfer_weights
from nnunet_transfer.checkpoints import inspect_checkpoint
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.files import write_json
from nnunet_transfer.plans import PROFILES
from nnunet_transfer.plans.architectures import with_dimensions
from tests.checkpoint_files import added, build, randomise

pytestmark = pytest.mark.usefixtures("registry")


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_timm_resnet_d_has_bit_identical_features(tmp_path: Path, depth: int) -> None:
    original = randomised_norms(timm.create_model(f"resnet{depth}d", pretrained=False)).eval()
    source = added(original.state_dict(), tmp_path)
    assert source.card.format == "ResNet"
    expected = PROFILES[f"resnet{depth}"].architecture(2)
    assert source.card.architecture["arch_kwargs"] == expected["arch_kwargs"]
    mine = build(dict(source.card.architecture), 3).eval()
    report = transfer_weights(mine, source)
    assert report.coverage["encoder"] > 0.99
    x = original.maxpool(original.act1(original.bn1(original.conv1(torch.randn(2, 3, 64, 64)))))
    with torch.no_grad():
        x = original.layer1(x)
        for stage, layer in ((2, original.layer2), (3, original.layer3), (4, original.layer4)):
            y = layer(x)
            assert torch.equal(mine.encoder.stages[stage](x), y)
            x = y


def randomised_norms(network: nn.Module) -> nn.Module:
    """Give BatchNorm statistics and affine parts of its own, with values near 1 so that deep networks stay finite."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.2)
                module.weight.uniform_(0.8, 1.2)
                module.bias.uniform_(-0.1, 0.1)
    return network


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_resnet_blocks_without_a_shortcut_convolution_are_exact(tmp_path: Path, depth: int) -> None:
    original = randomised_norms(getattr(torchvision.models, f"resnet{depth}")(weights=None)).eval()
    source = added(original.state_dict(), tmp_path)
    assert "use average pooling" in " ".join(source.card.extra["notes"])
    mine = build(dict(source.card.architecture), 3).eval()
    report = transfer_weights(mine, source)
    assert report.coverage["encoder"] > 0.99
    assert report.coverage["stem"] == 1.0
    for stage, layer in enumerate((original.layer1, original.layer2, original.layer3, original.layer4), start=1):
        first = layer[0]
        width = (first.conv3 if depth == 50 else first.conv2).out_channels
        x = torch.rand(1, width, 8, 8)
        with torch.no_grad():
            assert torch.equal(mine.encoder.stages[stage].blocks[1:](x), layer[1:](x))
    # the 7×7 stem is folded into 3×3: equal on constant images
    x = torch.full((1, 3, 32, 32), 0.7)
    with torch.no_grad():
        stem = mine.encoder.stem.convs[0].conv(x)[:, :, 16, 16]
        torch.testing.assert_close(stem, original.conv1(x)[:, :, 8, 8], rtol=1e-4, atol=1e-5)


def test_imagenet_weights_reach_one_channel_and_three_dimensions(tmp_path: Path) -> None:
    original = randomised_norms(timm.create_model("resnet18d", pretrained=False)).eval()
    source = added(original.state_dict(), tmp_path)
    architecture = {
        **source.card.architecture,
        "arch_kwargs": {**source.card.architecture["arch_kwargs"], "norm_op": "torch.nn.BatchNorm2d"},
    }
    architecture = with_dimensions(architecture, 3)
    mine = build(architecture, 1).eval()
    report = transfer_weights(mine, source, rules=AdaptationRules(inflation="mean"))
    assert report.coverage["encoder"] > 0.99
    flat = torch.rand(1, 64, 8, 8)
    volume = flat.unsqueeze(2).expand(-1, -1, 32, -1, -1)
    with torch.no_grad():
        deep = mine.encoder.stages[2](volume)
        torch.testing.assert_close(deep[:, :, 8], original.layer2(flat), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrap", "holder"),
    [
        ("backbone.", None),
        ("encoder.", None),
        ("module.", "state_dict"),
        ("model.", "state_dict"),
        ("model._orig_mod.", "state_dict"),
        ("backbone.", "teacher"),
    ],
)
def test_prefixes_and_holders_of_resnets(tmp_path: Path, wrap: str, holder: str | None) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    wrapped: Any = {wrap + k: v for k, v in state.items()}
    wrapped["head.weight"] = torch.zeros(2, 2)
    content = {holder: wrapped, "epoch": 3} if holder else wrapped
    source = added(content, tmp_path)
    assert torch.equal(source.tensors()["encoder.stages.4.blocks.1.conv2.conv.weight"], state["layer4.1.conv2.weight"])


def test_of_two_networks_the_one_that_was_trained_for_use_is_taken(tmp_path: Path) -> None:
    right, wrong = (randomise(torchvision.models.resnet18(weights=None)).state_dict() for _ in range(2))
    moco = {"module.encoder_k." + k: v for k, v in wrong.items()} | {
        "module.encoder_q." + k: v for k, v in right.items()
    }
    dino = {
        "student": {"module.backbone." + k: v for k, v in wrong.items()},
        "teacher": {"backbone." + k: v for k, v in right.items()},
    }
    for name, content in (("moco", {"state_dict": moco}), ("dino", dino)):
        source = added(content, tmp_path, name)
        tensors = source.tensors()
        assert torch.equal(tensors["encoder.stages.1.blocks.0.conv1.conv.weight"], right["layer1.0.conv1.weight"])
        others = [note for note in source.card.extra["notes"] if "is loaded, not module.encoder_k" in note]
        assert len(others) == (name == "moco")


def test_torchvision_segmentation_model(tmp_path: Path) -> None:
    original = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None)
    source = added(original.state_dict(), tmp_path)
    assert source.card.parts == "encoder"
    assert any("dilate" in note for note in source.card.extra["notes"])
    mine = build(dict(source.card.architecture), 3)
    assert transfer_weights(mine, source).coverage["encoder"] > 0.99


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("resnext50_32x4d", "grouped convolutions"),
        ("seresnet18", "squeeze-and-excitation"),
        ("test_resnet", "blocks of two and of three convolutions"),
    ],
)
def test_resnet_variants_that_compute_something_else_are_refused(tmp_path: Path, model: str, reason: str) -> None:
    path = tmp_path / "x.pth"
    torch.save(timm.create_model(model, pretrained=False).state_dict(), path)
    with pytest.raises(CheckpointError, match=reason):
        inspect_checkpoint(path)


@pytest.mark.parametrize(
    ("named_by", "file"),
    [
        ("resnetblur18-1a2b3c4d.pth", "resnetblur18-1a2b3c4d.pth"),
        ("resnetaa34d", "config.json"),
        ("resnetaa50d", "arch"),
        ("resnetblur50.bt_in1k", f"models--timm--resnetblur50.bt_in1k/snapshots/{'a' * 40}/weights.pth"),
        ("resnet50_caffe.pth", "resnet50_caffe.pth"),
    ],
)
def test_what_no_tensor_of_a_resnet_shows_is_noted_by_its_name(tmp_path: Path, named_by: str, file: str) -> None:
    """Anti-aliased ResNets have the tensors of plain ones."""
    state = timm.create_model("resnet10t", pretrained=False).state_dict()
    path = tmp_path / "weights.pth"
    if file == "config.json":
        write_json(tmp_path / file, {"architecture": named_by})
    elif file != "arch":
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "arch": named_by} if file == "arch" else state, path)
    notes = inspect_checkpoint(path)["notes"]
    assert any(f"by its name, {named_by}, the original s" in note for note in notes)
    torch.save(state, tmp_path / "plain.pth")
    (tmp_path / "config.json").unlink(missing_ok=True)
    notes = inspect_checkpoint(tmp_path / "plain.pth")["notes"]
    assert any("no tensor shows anti-aliasing" in note for note in notes)


def test_biases_of_a_resnet_s_convolutions_are_left_out_with_a_note(tmp_path: Path) -> None:
    """MONAI's shortcuts have them."""
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    norm = state["layer2.0.downsample.1.bias"].add_(1).clone()
    state = {"layer2.0.downsample.1.bias": norm, **state, "layer2.0.downsample.0.bias": torch.ones(128)}
    source = added(state, tmp_path)
    assert torch.equal(source.tensors()["encoder.stages.2.blocks.0.skip.1.norm.bias"], norm)
    assert "convolutions of its blocks have a bias, which nnU-Net's don't have: left out" in source.card.extra["notes"]
