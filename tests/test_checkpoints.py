"""Published checkpoint formats: each read from a file in its real layout, against the original network."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from nnunet_transfer.adaptation import transfer_weights
from nnunet_transfer.checkpoints import Provenance, Reading, add_source, inspect_checkpoint
from nnunet_transfer.errors import CheckpointError, SourceError
from nnunet_transfer.files import write_json
from nnunet_transfer.plans import PROFILES
from nnunet_transfer.sources import Source, load_source
from tests.checkpoint_files import added, build, nnunet_run, nnunet_v1_state, plans_architecture, randomise

pytestmark = pytest.mark.usefixtures("registry")


def same_functions(network: nn.Module, source: Source, dims: int, **options: Any) -> None:
    """Check that a network built from the card and filled from the source gives the original's features."""
    mine = build(dict(source.card.architecture), source.card.input_channels).eval()
    report = transfer_weights(mine, source, **options)
    assert report.coverage["encoder"] == 1.0
    x = torch.randn(1, source.card.input_channels, *(16,) * dims)
    with torch.no_grad():
        for a, b in zip(mine.encoder(x), network.eval().encoder(x), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_nnunet_v2_run(tmp_path: Path, residual: bool, dims: int) -> None:
    architecture = plans_architecture(residual, dims)
    network = randomise(build(architecture))
    source = added(nnunet_run(network, architecture), tmp_path)
    same_functions(network, source, dims)
    card = source.card
    assert card.format == "nnU-Net v2"
    assert (card.channel_names, card.trained_on, card.licence) == (("T1",), ("Dataset042_Answer",), "CC0")
    assert (card.spacing, card.patch_size) == ((1.0, 0.5, 0.5), (16, 32, 32))
    assert card.normalization_schemes == ("ZScoreNormalization",)
    assert not any("all_modules" in k or "decoder.encoder" in k for k in source.tensors())


@pytest.mark.parametrize("residual", [True, False])
def test_architectures_are_read_off_the_shapes_where_plans_have_none(tmp_path: Path, residual: bool) -> None:
    architecture = plans_architecture(residual)
    network = randomise(build(architecture))
    old_plans = {"configurations": {"3d_fullres": {"UNet_class_name": "PlainConvUNet", "spacing": [1, 1, 1]}}}
    source = added(nnunet_run(network, architecture, **old_plans), tmp_path)
    assert source.card.architecture["arch_kwargs"] == architecture["arch_kwargs"]
    assert source.card.architecture["network_class_name"] == architecture["network_class_name"]
    assert source.card.extra["notes"] == [
        "the architecture was derived from the shapes: the plans with the weights don't state it"
    ]
    same_functions(network, source, 3)


@pytest.mark.parametrize("residual", [True, False])
def test_plans_of_the_first_releases_state_the_architecture(tmp_path: Path, residual: bool) -> None:
    """Plans of nnU-Net 2.0 to 2.3 describe the U-Net in words of their own; strides show in no weight of an encoder."""
    architecture = plans_architecture(residual)
    kwargs = architecture["arch_kwargs"]
    kwargs |= {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "features_per_stage": [4, 8, 10]}
    network = randomise(build(architecture))
    old = {
        "UNet_class_name": "ResidualEncoderUNet" if residual else "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 10,
        "n_conv_per_stage_encoder": [1, 2, 2],
        "n_conv_per_stage_decoder": [1, 1],
        "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": kwargs["strides"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
        "patch_size": [16, 32, 32],
        "spacing": [1, 1, 1],
    }
    source = added(nnunet_run(network, architecture, configurations={"3d_fullres": old}), tmp_path)
    assert source.card.architecture["arch_kwargs"] == kwargs
    assert source.card.extra["notes"] == []
    same_functions(network, source, 3)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("residual", [True, False])
def test_a_trainer_s_norm_is_that_of_the_weights(tmp_path: Path, residual: bool, dims: int) -> None:
    """nnUNetTrainerBN trains with BatchNorm, and stores plans that still say InstanceNorm."""
    planned = plans_architecture(residual, dims)
    trained = copy.deepcopy(planned)
    trained["arch_kwargs"]["norm_op"] = f"torch.nn.modules.batchnorm.BatchNorm{dims}d"
    network = randomise(build(trained))
    run = nnunet_run(network, planned) | {"trainer_name": "nnUNetTrainerBN"}
    source = added(run, tmp_path)
    assert source.card.architecture["arch_kwargs"] == trained["arch_kwargs"]
    assert source.card.extra["notes"] == [f"the norm is that of the weights, BatchNorm{dims}d: the plans say another"]
    same_functions(network, source, dims)


@pytest.mark.parametrize("norm", ["InstanceNorm", "BatchNorm"])
def test_plans_that_ask_for_running_statistics_state_their_norm(tmp_path: Path, norm: str) -> None:
    architecture = plans_architecture()
    architecture["arch_kwargs"] |= {
        "norm_op": f"torch.nn.modules.{norm.lower()}.{norm}3d",
        "norm_op_kwargs": {"eps": 1e-3, "affine": True, "track_running_stats": True},
    }
    source = added(nnunet_run(randomise(build(architecture)), architecture), tmp_path)
    assert source.card.architecture["arch_kwargs"] == architecture["arch_kwargs"]
    assert source.card.extra["notes"] == []


def test_the_second_stage_of_a_cascade_says_which_channels_hold_labels(tmp_path: Path) -> None:
    architecture = plans_architecture()
    run = nnunet_run(randomise(build(architecture, channels=3)), architecture)
    run["init_args"]["configuration"] = "3d_cascade_fullres"
    source = added(run, tmp_path)
    assert (source.card.channel_names, source.card.input_channels, source.card.label_channels) == (("T1",), 3, 2)
    content = inspect_checkpoint(tmp_path / "s.pth")
    assert content["label_channels"] == 2
    assert any("the last 2 of 3 input channels hold the first stage's labels" in note for note in content["notes"])


@pytest.mark.parametrize("profile", ["resnet18", "resnet50", "plain", "demo"])
@pytest.mark.parametrize("dims", [2, 3])
def test_shapes_tell_the_architecture_of_every_profile(profile: str, dims: int) -> None:
    from nnunet_transfer.checkpoints.shapes import architecture_from_shapes
    from nnunet_transfer.sources.keys import canonical

    architecture = PROFILES[profile].architecture(dims)
    with torch.device("meta"):
        tensors = canonical(build(architecture).state_dict())
    found = architecture_from_shapes(tensors, architecture["arch_kwargs"]["nonlin"].rsplit(".", 1)[-1])
    assert found["arch_kwargs"] == architecture["arch_kwargs"]


def test_model_folder_and_exported_zip(tmp_path: Path) -> None:
    """As `nnUNetv2_export_model_to_zip` lays it out: dataset/trainer__plans__configuration/fold_k."""
    architecture = plans_architecture()
    model = tmp_path / "Dataset042_Answer" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    networks = {fold: randomise(build(architecture)) for fold in ("fold_0", "fold_all")}
    for fold, network in networks.items():
        content = nnunet_run(network, architecture)
        plans = content["init_args"]["plans"]
        content["init_args"] = {}
        (model / fold).mkdir(parents=True)
        torch.save(content, model / fold / "checkpoint_final.pth")
    write_json(model / "plans.json", plans)
    write_json(model / "dataset.json", {"channel_names": {"0": "T1w"}})
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        for path in model.rglob("*"):
            z.write(path, path.relative_to(tmp_path))
    for path, name in ((model, "folder"), (archive, "zip")):
        for fold, expected in ((None, "fold_all"), ("0", "fold_0")):
            add_source(
                path, name, task="segmentation", domain="t1", reading=Reading(fold=fold), overwrite=fold is not None
            )
            source = load_source(name)
            same_functions(networks[expected], source, 3)
            assert source.card.channel_names == ("T1w",)
            assert source.card.patch_size == (16, 32, 32)
            assert source.card.trained_on == ("Dataset042_Answer",)
            read = [note for note in source.card.extra["notes"] if f"{expected}/checkpoint_final.pth is read" in note]
            assert len(read) == (fold is None), "what was chosen is noted"
    with pytest.raises(CheckpointError, match="no weights file in fold_7"):
        inspect_checkpoint(model, reading=Reading(fold="7"))
    second = tmp_path / "Dataset042_Answer" / "other__p__2d" / "fold_0"
    second.mkdir(parents=True)
    (second / "checkpoint_final.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="holds 2 models"):
        inspect_checkpoint(tmp_path / "Dataset042_Answer")


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


@pytest.mark.parametrize("lightning", [False, True])
def test_slopes_of_a_prelu_are_not_taken_for_a_norm(tmp_path: Path, lightning: bool) -> None:
    architecture = plans_architecture()
    architecture["arch_kwargs"] |= {"nonlin": "torch.nn.PReLU", "nonlin_kwargs": {}}
    network = randomise(build(architecture))
    state = {f"model.{k}": v for k, v in network.state_dict().items()}
    source = added({"state_dict": state} if lightning else nnunet_run(network, architecture), tmp_path)
    assert source.card.architecture["arch_kwargs"] == architecture["arch_kwargs"]
    same_functions(network, source, 3)


def test_slopes_per_channel_are_refused(tmp_path: Path) -> None:
    architecture = plans_architecture()
    state = build(architecture).state_dict()
    state["encoder.stem.convs.0.nonlin.weight"] = torch.ones(4)
    with pytest.raises(CheckpointError, match="a slope per channel"):
        added(state, tmp_path)


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


def test_a_user_s_key_map(tmp_path: Path) -> None:
    network = randomise(build(plans_architecture()))
    odd = {k.replace("encoder.stages.", "down."): v for k, v in network.encoder.state_dict(prefix="encoder.").items()}
    rules = tmp_path / "map.txt"
    rules.write_text("# my network\n^down\\.(\\d+) = encoder.stages.\\1  # stages\n")
    source = added(odd, tmp_path, reading=Reading(key_map=rules))
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


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "decoder."])
def test_names_of_one_tensor_must_agree(tmp_path: Path, wrapper: str) -> None:
    architecture = plans_architecture()
    content = nnunet_run(build(architecture), architecture)
    key = next(k for k in content["network_weights"] if k.startswith("encoder.") and k.endswith("conv.weight"))
    weights = content["network_weights"][key]
    for state in (content, content["network_weights"]):
        content["network_weights"][wrapper + key] = weights + 1
        with pytest.raises(CheckpointError, match=rf"{key} are one tensor .* values differ"):
            added(state, tmp_path)
    content["network_weights"][wrapper + key] = weights.clone()
    assert added(content, tmp_path).card.parts == "encoder+decoder"


def test_a_run_s_encoder_alone_is_called_so(tmp_path: Path) -> None:
    architecture = plans_architecture()
    content = nnunet_run(build(architecture), architecture)
    content["network_weights"] = {k: v for k, v in content["network_weights"].items() if k.startswith("encoder.")}
    assert added(content, tmp_path).card.parts == "encoder"


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


def test_a_long_run_with_many_classes_is_read(tmp_path: Path) -> None:
    """nnU-Net logs a NumPy number per class and epoch; here more than 5 million instructions."""
    architecture = plans_architecture()
    content = nnunet_run(build(architecture), architecture)
    content["logging"]["dice_per_class_or_region"] = [list(np.linspace(0, 1, 117)) for _ in range(3200)]
    torch.save(content, tmp_path / "run.pth")
    assert inspect_checkpoint(tmp_path / "run.pth")["stages"] == 3


def test_the_user_s_word_wins_and_taken_names_are_kept(tmp_path: Path) -> None:
    architecture = plans_architecture()
    content = nnunet_run(build(architecture), architecture)
    given = Provenance("CC-BY-4.0", "me", ("Dataset001_Mine",), ("T1 weighted",))
    card = added(content, tmp_path, provenance=given).card
    assert (card.licence, card.citation, card.trained_on) == ("CC-BY-4.0", "me", ("Dataset001_Mine",))
    assert card.channel_names == ("T1 weighted",)
    with pytest.raises(SourceError, match="already"):
        added(content, tmp_path)
