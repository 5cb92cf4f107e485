"""Published layouts of U-Nets and ResNets, from the original classes where they can be installed."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from nnunet_transfer.adaptation import transfer_weights
from nnunet_transfer.checkpoints import Reading, add_source, inspect_checkpoint
from nnunet_transfer.checkpoints.formats import convert_mapped, read_key_map
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.sources import Source, load_source
from tests.checkpoint_files import build, nnunet_v1_state, plans_architecture, randomise


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    torch.manual_seed(0)


def added(content: Any, folder: Path, name: str = "s") -> Source:
    path = folder / f"{name}.pth"
    torch.save(content, path)
    add_source(path, name, task="self_supervised", domain="natural")
    return load_source(name)


def resnet() -> nn.Module:
    """Return a small ResNet without its head: depth changes no name."""
    network = torchvision.models.resnet18(weights=None)
    network.fc = nn.Identity()
    return network


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def published_files() -> dict[str, Any]:
    """Return, by method, a file's content with the keys and the holders that its authors wrote."""
    own, other = resnet().state_dict(), resnet().state_dict()
    head = {"projection_head.0.weight": torch.zeros(8, 512), "prototypes.weight": torch.zeros(3, 8)}
    optimiser = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.03, "params": [0]}]}
    return {
        "SwAV": prefixed("module.", {**own, **head}),
        "DINO, backbone": own,
        "DINO, all": {
            "student": prefixed("module.backbone.", other),
            "teacher": prefixed("backbone.", {**own}) | {"head.last_layer.weight_g": torch.ones(3, 1)},
            "optimizer": optimiser,
            "epoch": 800,
        },
        "MoCo v2": {
            "epoch": 800,
            "arch": "resnet50",
            "state_dict": prefixed("module.encoder_q.", own | {"fc.0.weight": torch.zeros(4, 512)})
            | prefixed("module.encoder_k.", other)
            | {"module.queue": torch.zeros(4, 9), "module.queue_ptr": torch.zeros(1, dtype=torch.long)},
            "optimizer": optimiser,
        },
        "MoCo v3": {"state_dict": prefixed("module.base_encoder.", own) | prefixed("module.momentum_encoder.", other)},
        "Barlow Twins": OrderedDict(own),
        "BYOL, Lightning": {
            "pytorch-lightning_version": "1.9.0",
            "state_dict": prefixed("model.backbone.", own),
            "hyper_parameters": {"lr": 0.1},
        },
    }


METHODS = ("SwAV", "DINO, backbone", "DINO, all", "MoCo v2", "MoCo v3", "Barlow Twins", "BYOL, Lightning")


@pytest.mark.parametrize("method", METHODS)
def test_self_supervised_resnets(method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    content = published_files()[method]
    torch.manual_seed(0)
    own = resnet().state_dict()
    source = added(content, tmp_path)
    assert (source.card.format, source.card.parts, source.card.channel_names) == ("ResNet", "encoder", ("R", "G", "B"))
    mine = build(dict(source.card.architecture), 3)
    assert transfer_weights(mine, source).coverage["encoder"] > 0.99
    for stage, block in ((1, 0), (4, 1)):
        for convolution in (1, 2):
            loaded = getattr(mine.encoder.stages[stage].blocks[block], f"conv{convolution}").conv.weight
            assert torch.equal(loaded, own[f"layer{stage}.{block}.conv{convolution}.weight"])


@pytest.mark.parametrize(
    ("encoder", "channels", "form"),
    [
        ("resnet18", 1, "state dict"),
        ("resnet18", 3, "Lightning"),
        ("resnet18", 4, "Hugging Face folder"),
        ("resnet50", 3, "state dict"),
        ("tu-resnet18d", 3, "state dict"),
    ],
)
def test_segmentation_models_pytorch(encoder: str, channels: int, form: str, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    original = randomise(smp.Unet(encoder, encoder_weights=None, in_channels=channels, classes=2)).eval()
    if form == "Hugging Face folder":
        original.save_pretrained(tmp_path / "hub")
        add_source(tmp_path / "hub", "s", task="segmentation", domain="natural")
        source = load_source("s")
    else:
        state = original.state_dict()
        content = {"state_dict": prefixed("model.", state)} if form == "Lightning" else state
        source = added(content, tmp_path)
    assert (source.card.input_channels, source.card.parts) == (channels, "encoder")
    mine = build(dict(source.card.architecture), channels).eval()
    assert transfer_weights(mine, source).coverage["encoder"] > 0.99
    encoder_of = original.encoder.model if encoder.startswith("tu-") else original.encoder
    x = torch.rand(1, 64 if "50" not in encoder else 256, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(mine.encoder.stages[1].blocks[1](x), encoder_of.layer1[1](x))


@pytest.mark.parametrize(
    ("decoder", "encoder", "reason"),
    [
        ("Unet", "resnext50_32x4d", "grouped convolutions"),
        ("FPN", "se_resnet50", "squeeze-and-excitation"),
        ("Unet", "efficientnet-b0", "depthwise convolutions"),
        ("Unet", "mit_b0", "a vision transformer"),
        ("Unet", "densenet121", "a DenseNet"),
    ],
)
def test_encoders_that_compute_something_else_are_refused(
    decoder: str, encoder: str, reason: str, tmp_path: Path
) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.save(getattr(smp, decoder)(encoder, encoder_weights=None).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=reason):
        inspect_checkpoint(tmp_path / "x.pth")


def test_what_no_tensor_shows_is_noted(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    deeplab = added(smp.DeepLabV3Plus("resnet18", encoder_weights=None).state_dict(), tmp_path, "deeplab")
    assert "DeepLab dilate" in " ".join(deeplab.card.extra["notes"])
    deep_stem = added(timm.create_model("resnet50c", pretrained=False).state_dict(), tmp_path, "c").card.extra["notes"]
    assert "three-layer stem" in " ".join(deep_stem)
    assert "use average pooling" in " ".join(deep_stem)


def test_a_resnet_with_group_norm_gets_instance_norm(tmp_path: Path) -> None:
    source = added(timm.create_model("resnet50_gn", pretrained=False).state_dict(), tmp_path)
    assert source.card.architecture["arch_kwargs"]["norm_op"].endswith("InstanceNorm2d")
    assert "keeps no statistics" in " ".join(source.card.extra["notes"])
    report = transfer_weights(build(dict(source.card.architecture), 3), source)
    assert report.coverage["encoder"] > 0.99


@pytest.mark.parametrize("holder", [None, "state_dict", "net", "student"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_vocomni_s_nnunet(holder: str | None, prefix: str, tmp_path: Path) -> None:
    """A `PlainConvUNet` without plans; VoCo's own loader expects these holders and prefixes."""
    architecture = plans_architecture(residual=False)
    original = randomise(build(architecture, labels=21)).eval()
    state = prefixed(prefix, original.state_dict())
    source = added({holder: state} if holder else state, tmp_path)
    assert (source.card.format, source.card.parts) == ("nnU-Net's keys", "encoder+decoder")
    mine = build(dict(source.card.architecture), labels=21).eval()
    assert transfer_weights(mine, source).coverage == {"stem": 1.0, "encoder": 1.0, "decoder": 1.0}
    mine.decoder.seg_layers.load_state_dict(original.decoder.seg_layers.state_dict())
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        for a, b in zip(mine(x), original(x), strict=True):
            assert torch.equal(a, b)


def test_nnunet_v1_with_kernels_that_differ_between_stages(tmp_path: Path) -> None:
    """Checked against nnunet 1.7.1: the encoder is exact, the last decoder stage has the kernel of the one below."""
    architecture = plans_architecture(residual=False)
    architecture["arch_kwargs"] |= {
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    }
    original = randomise(build(architecture)).eval()
    state = nnunet_v1_state(original, 3)
    for convolution in range(2):
        key = f"conv_blocks_localization.1.{convolution}.blocks.0.conv.weight"
        state[key] = state[key].expand(-1, -1, 3, -1, -1).clone()
    source = added({"state_dict": state}, tmp_path)
    assert source.card.architecture["arch_kwargs"] == architecture["arch_kwargs"]
    assert "kernel of the stage below" in source.card.extra["notes"][1]
    mine = build(dict(source.card.architecture)).eval()
    report = transfer_weights(mine, source)
    assert [d.key for d in report.decisions if d.steps] == [
        f"decoder.stages.1.convs.{convolution}.conv.weight" for convolution in range(2)
    ]
    x = torch.randn(1, 1, 16, 16, 16)
    for a, b in zip(mine.encoder(x), original.encoder(x), strict=True):
        assert torch.equal(a, b)


LETTERS = st.text("abcdefgh", min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.tuples(LETTERS, LETTERS, LETTERS).filter(lambda n: len(set(n)) == 3), separator=st.sampled_from("._-/:")
)
def test_any_regular_renaming_can_be_mapped_back(names: tuple[str, str, str], separator: str) -> None:
    """A network whose keys were renamed at will is read with a map that a user could write."""
    stem, stage, block = (f"{name}{separator}" for name in names)
    state = build(plans_architecture()).encoder.state_dict(prefix="encoder.")
    own = {k: t for k, t in state.items() if "all_modules" not in k}
    renamed = {
        k.replace("encoder.stem.", f"X1{stem}")
        .replace("encoder.stages.", f"X2{stage}")
        .replace(".blocks.", f".X3{block}"): t
        for k, t in own.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.txt"
        lines = (("X1", stem, "encoder.stem."), ("X2", stage, "encoder.stages."), ("X3", block, "blocks."))
        path.write_text("".join(f"{mark}{old.replace('.', '[.]')} = {new}\n" for mark, old, new in lines))
        converted = convert_mapped(renamed, read_key_map(path))
    assert converted.tensors.keys() == own.keys()
    assert all(torch.equal(converted.tensors[k], own[k]) for k in own)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8"), max_size=80))
def test_no_key_map_is_a_traceback(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        weights, rules = Path(folder) / "x.pth", Path(folder) / "map.txt"
        torch.save({"a.weight": torch.zeros(2), "b.weight": torch.zeros(2)}, weights)
        rules.write_text(text + " = x\n" + text, encoding="utf-8")
        with pytest.raises(CheckpointError) as caught:
            inspect_checkpoint(weights, reading=Reading(key_map=rules))
    assert len(str(caught.value).splitlines()) == 1
