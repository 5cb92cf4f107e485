"""Published checkpoint formats: each read from a file in its real layout, against the original network."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from nnunet_transfer.adaptation import transfer_weights
from nnunet_transfer.checkpoints import Provenance, Reading, add_source, inspect_checkpoint
from nnunet_transfer.errors import CheckpointError, SourceError
from nnunet_transfer.files import write_json
from nnunet_transfer.sources import load_source
from tests.checkpoint_files import (
    added,
    build,
    nnunet_run,
    nnunet_v1_state,
    plans_architecture,
    randomise,
    same_functions,
)

pytestmark = pytest.mark.usefixtures("registry")


def nnssl(network: nn.Module, name: str, kwargs: dict[str, Any] | None) -> dict[str, Any]:
    configuration = {"spacing": [1, 1, 1], "patch_size": [160] * 3, "normalization_schemes": ["ZScoreNormalization"]}
    return {
        "network_weights": network.state_dict(),
        "nnssl_adaptation_plan": {
            "architecture_plans": {"arch_class_name": name, "arch_kwargs": kwargs, "arch_kwargs_requiring_import": []},
            "pretrain_plan": {
                "dataset_name": "Dataset745_OpenNeuro_v2",
                "configurations": {"onemmiso": configuration},
            },
            "pretrain_num_input_channels": 1,
            "recommended_downstream_patchsize": [160] * 3,
            "key_to_encoder": "encoder.stages",
            "key_to_stem": "encoder.stem",
            "keys_to_in_proj": ("encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"),
            "key_to_lpe": None,
        },
        "citations": ["A. Author, 2025"],
    }


@pytest.mark.parametrize(("name", "parts"), [("ResEncL", "encoder+decoder"), ("NoSkipResEncL", "encoder")])
def test_nnssl_with_its_plan_beside_the_weights(tmp_path: Path, name: str, parts: str) -> None:
    network = randomise(build(plans_architecture()))
    content = nnssl(network, name, None)
    write_json(tmp_path / "adaptation_plan.json", content.pop("nnssl_adaptation_plan"))
    source = added(content, tmp_path)
    assert (source.card.format, source.card.parts, source.card.patch_size) == ("nnssl", parts, (160, 160, 160))
    same_functions(network, source, 3)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for file in ("s.pth", "adaptation_plan.json", "README.md"):
            archive.write(tmp_path / file, f"model/{file}")
    add_source(tmp_path / "model.zip", "zipped", task="self_supervised", domain="t1")
    card = load_source("zipped").card
    assert (card.format, card.parts, card.patch_size) == ("nnssl", parts, (160, 160, 160))
    assert card.licence == "cc-by-4.0"


@pytest.mark.parametrize(("name", "parts"), [("ResEncL", "encoder+decoder"), ("NoSkipResEncL", "encoder")])
def test_nnssl_with_the_architecture_by_name_only(tmp_path: Path, name: str, parts: str) -> None:
    network = randomise(build(plans_architecture()))
    source = added(nnssl(network, name, None), tmp_path)
    same_functions(network, source, 3)
    card = source.card
    assert (card.format, card.parts) == ("nnssl", parts)
    assert (card.patch_size, card.trained_on) == ((160, 160, 160), ("Dataset745_OpenNeuro_v2",))
    assert card.citation == "A. Author, 2025"
    assert any(k.startswith("decoder.") for k in source.tensors()) == (parts == "encoder+decoder")


def test_medicalnet(tmp_path: Path) -> None:
    """Its layout: 3D, `module.`, one channel, 7×7×7 stem, shortcuts of type A without weights."""
    original = torchvision.models.video.r3d_18(weights=None)
    state = {}
    for layer in range(1, 5):
        for block in range(2):
            for conv in (1, 2):
                module = getattr(getattr(original, f"layer{layer}")[block], f"conv{conv}")
                stem = f"module.layer{layer}.{block}"
                state |= {f"{stem}.conv{conv}.weight": module[0].weight.detach()}
                state |= {f"{stem}.bn{conv}.{k}": v for k, v in module[1].state_dict().items()}
    state["module.conv1.weight"] = torch.randn(64, 1, 7, 7, 7)
    state |= {f"module.bn1.{k}": v for k, v in nn.BatchNorm3d(64).state_dict().items()}
    source = added({"state_dict": state}, tmp_path)
    assert (source.card.dimensions, source.card.input_channels) == (3, 1)
    mine = build(dict(source.card.architecture), 1)
    report = transfer_weights(mine, source)
    assert report.coverage["encoder"] > 0.98
    assert torch.equal(mine.encoder.stages[3].blocks[1].conv2.conv.weight, original.layer3[1].conv2[0].weight)
    assert "type A" in " ".join(source.card.extra["notes"])


def test_nnunet_v1(tmp_path: Path) -> None:
    architecture = plans_architecture(residual=False)
    architecture["arch_kwargs"] |= {"n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2]}
    network = randomise(build(architecture))
    for transposed in network.decoder.transpconvs:
        transposed.bias.data.zero_()  # v1's have none
    source = added({"state_dict": nnunet_v1_state(network, 3), "epoch": 1000}, tmp_path)
    assert source.card.format == "nnU-Net v1"
    assert source.card.architecture["arch_kwargs"] == architecture["arch_kwargs"]
    same_functions(network, source, 3)
    mine = build(dict(source.card.architecture))
    transfer_weights(mine, source)
    for transposed in mine.decoder.transpconvs:
        transposed.bias.data.zero_()
    x = torch.randn(1, 1, 16, 16, 16)
    mine.decoder.seg_layers.load_state_dict(network.decoder.seg_layers.state_dict())
    assert torch.equal(mine.eval()(x), network.eval()(x))


def test_of_two_networks_of_nnunet_v1_in_lightning_s_file_one_is_named(tmp_path: Path) -> None:
    architecture = plans_architecture(residual=False)
    architecture["arch_kwargs"] |= {"n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2]}
    network, other = (randomise(build(architecture)) for _ in range(2))
    state = {f"model.{k}": v for k, v in nnunet_v1_state(network, 3).items()}
    state |= {f"ema_model.module.{k}": v for k, v in nnunet_v1_state(other, 3).items()}
    source = added({"state_dict": state, "pytorch-lightning_version": "2.0"}, tmp_path)
    assert source.card.format == "nnU-Net v1"
    same_functions(network, source, 3)
    assert any("the one under model is loaded, not ema_model" in note for note in source.card.extra["notes"])


def test_safetensors_and_lightning_with_nnunets_keys(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network = randomise(build(plans_architecture()))
    path = tmp_path / "weights.safetensors"
    save_file({k: v.clone() for k, v in network.state_dict().items()}, path)
    add_source(path, "plain", task="self_supervised", domain="t1")
    same_functions(network, load_source("plain"), 3)
    lightning = {
        "state_dict": {f"model.{k}": v for k, v in network.state_dict().items()},
        "pytorch-lightning_version": "2.0",
    }
    same_functions(network, added(lightning, tmp_path, "lightning"), 3)
    for file in ("weights.safetensors", "lightning.pth"):
        assert inspect_checkpoint(tmp_path / file)["tensors_without_use"] == 0, "aliases are used"


def test_what_training_adds_to_a_network_is_left_out(tmp_path: Path) -> None:
    network = randomise(build(plans_architecture()))
    state = torch.optim.swa_utils.AveragedModel(network).state_dict()
    assert state["n_averaged"].dtype == torch.int64
    # of MoCo
    state |= {"queue": torch.zeros(2, 3), "queue_ptr": torch.zeros(1, dtype=torch.int64)}
    same_functions(network, added(state, tmp_path), 3)
    assert inspect_checkpoint(tmp_path / "s.pth")["tensors_without_use"] == 3


@pytest.mark.parametrize(
    ("used", "other"),
    [
        ("teacher.", "student."),
        ("module.encoder_q.", "module.encoder_k."),
        ("base_encoder.", "momentum_encoder."),
        ("", "copy."),
        ("network.", "ema."),
        ("net.", "model_ema.model."),
    ],
)
def test_of_two_networks_with_nnunets_keys_the_one_for_use_is_taken(tmp_path: Path, used: str, other: str) -> None:
    right, wrong = (randomise(build(plans_architecture())) for _ in range(2))
    both = {used + k: v for k, v in right.state_dict().items()} | {other + k: v for k, v in wrong.state_dict().items()}
    source = added(both, tmp_path)
    same_functions(right, source, 3)
    left_out = other.removeprefix("module.").rstrip(".")
    assert any(f"is loaded, not {left_out}" in note for note in source.card.extra["notes"])


@pytest.mark.parametrize(("used", "other"), [("teacher", "student"), ("state_dict", "state_dict_ema")])
def test_of_two_entries_with_networks_one_is_loaded_and_both_are_named(tmp_path: Path, used: str, other: str) -> None:
    right, wrong = (randomise(build(plans_architecture())) for _ in range(2))
    both = {other: wrong.state_dict(), used: right.state_dict(), "epoch": 3, "scales": {"x": torch.ones(2)}}
    (tmp_path / "keys.txt").write_text("^encoder = encoder\n")
    for options in ({}, {"reading": Reading(key_map=tmp_path / "keys.txt")}):
        source = added(both, tmp_path, overwrite=True, **options)
        same_functions(right, source, 3)
        note = f"the file holds several networks: the one under {used} is loaded, not {other}"
        assert note in source.card.extra["notes"]


def nested(right: Any, wrong: Any) -> dict[str, tuple[Any, str]]:
    """Return files that hold a network inside other entries, and the other network that a note names."""
    optimizer = {"state": {"conv.weight": {"exp_avg": torch.zeros(2, 2, 3, 3)}}}
    return {
        "inside another entry": ({"model": {"state_dict": right, "step": torch.ones(())}, "optimizer": optimizer}, ""),
        "three deep": ({"state": {"trainer": {"model": right}}}, ""),
        "under a name of its own": ({"checkpoint": right, "epoch": 3}, ""),
        "beside averages": ({"state_dict": {"model": right, "ema": wrong}}, "state_dict.ema"),
        "beside averages inside": ({"model": right, "ema": {"decay": 0.9, "state": wrong}}, "ema.state"),
        "flat, beside averages": ({**right, "ema": wrong}, "ema"),
    }


@pytest.mark.parametrize("place", nested({}, {}))
def test_networks_are_found_inside_other_entries(tmp_path: Path, place: str) -> None:
    right, wrong = (randomise(build(plans_architecture())) for _ in range(2))
    content, other = nested(right.state_dict(), wrong.state_dict())[place]
    source = added(content, tmp_path)
    same_functions(right, source, 3)
    assert [note.endswith(f"is loaded, not {other}") for note in source.card.extra["notes"][1:]] == [True] * bool(other)


def test_a_run_inside_another_entry_keeps_its_plans(tmp_path: Path) -> None:
    architecture = plans_architecture()
    source = added({"model": nnunet_run(build(architecture), architecture), "a.b": 3}, tmp_path)
    assert (source.card.format, source.card.patch_size) == ("nnU-Net v2", (16, 32, 32))


def test_of_several_networks_under_unusual_keys_none_is_guessed(tmp_path: Path) -> None:
    network = build(plans_architecture())
    torch.save({"encoder": network.encoder.state_dict(), "decoder": network.decoder.state_dict()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="holds several networks, under encoder, decoder; save the state dict"):
        inspect_checkpoint(tmp_path / "x.pth")


def test_a_user_s_key_map(tmp_path: Path) -> None:
    network = randomise(build(plans_architecture()))
    odd = {k.replace("encoder.stages.", "down."): v for k, v in network.encoder.state_dict(prefix="encoder.").items()}
    odd = {f"net.{k}": v for k, v in odd.items()}
    rules = tmp_path / "map.txt"
    rules.write_text("\ufeff^net\\. =\n# my network\n^down\\.(\\d+) = encoder.stages.\\1  # stages\nold = new\n")
    source = added(odd, tmp_path, reading=Reading(key_map=rules))
    assert "the key map's line 4 matches no key" in source.card.extra["notes"]
    assert not any("line 1" in note or "line 3" in note for note in source.card.extra["notes"])
    assert (source.card.format, source.card.parts) == ("key map", "encoder")
    same_functions(network, source, 3)
    torch.save(odd, tmp_path / "odd.pth")
    for text, message in (
        ("( = down", "not a rule"),
        ("down", "line 1"),
        ("# nothing", "has no rules"),
        ("(.)own = \\2", "not a rule"),
        (".* = x", "gives two tensors the name x"),
        ("down = up", "keys are not nnU-Net's"),
    ):
        rules.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            inspect_checkpoint(tmp_path / "odd.pth", reading=Reading(key_map=rules))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["module.swinViT.patch_embed.proj.weight"], "a transformer's weights don't fit a CNN"),
        (["blocks.0.attn.qkv.weight", "cls_token"], "a transformer's weights don't fit"),
        (["eva.pos_embed"], "a transformer's weights"),
        (["module.enc_block_0.0.conv1.weight"], "a MedNeXt; its depthwise convolutions have no counterpart"),
        (["module.convInit.conv.weight"], "MONAI's SegResNet: it normalises before each convolution"),
        (["mystery.weight"], "--map FILE"),
    ],
)
def test_what_gives_nothing_to_a_cnn_is_refused_with_the_reason(tmp_path: Path, keys: list[str], reason: str) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {k: torch.zeros(2, 2) for k in keys}}, path)
    with pytest.raises(CheckpointError, match=reason):
        inspect_checkpoint(path)


def test_inspect_says_what_is_in_a_file(tmp_path: Path) -> None:
    architecture = plans_architecture()
    network = build(architecture)
    path = tmp_path / "run.pth"
    torch.save(nnunet_run(network, architecture), path)
    content = inspect_checkpoint(path)
    assert content["parameters"] == sum(p.numel() for p in network.parameters())
    assert content["tensors_without_use"] == 0
    assert (content["format"], content["network"], content["stages"]) == ("nnU-Net v2", "ResidualEncoderUNet", 3)
    assert (content["licence"], content["dimensions"], content["input_channels"]) == ("CC0", 3, 1)


def test_the_user_s_word_wins_and_taken_names_are_kept(tmp_path: Path) -> None:
    architecture = plans_architecture()
    content = nnunet_run(build(architecture), architecture)
    given = Provenance("CC-BY-4.0", "me", ("Dataset001_Mine",), ("T1 weighted",))
    card = added(content, tmp_path, provenance=given).card
    assert (card.licence, card.citation, card.trained_on) == ("CC-BY-4.0", "me", ("Dataset001_Mine",))
    assert card.channel_names == ("T1 weighted",)
    with pytest.raises(SourceError, match="already"):
        added(content, tmp_path)
