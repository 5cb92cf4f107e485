"""nnU-Net's own runs: folders, exported zips, plans of all releases, and architectures read off the weights."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_transfer.checkpoints import Reading, add_source, inspect_checkpoint
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.files import write_json
from nnunet_transfer.plans import PROFILES
from nnunet_transfer.sources import load_source
from tests.checkpoint_files import (
    added,
    build,
    nnunet_run,
    plans_architecture,
    randomise,
    same_functions,
)

pytestmark = pytest.mark.usefixtures("registry")


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
    with pytest.raises(CheckpointError, match=r"no weights file .* in fold_7"):
        inspect_checkpoint(model, reading=Reading(fold="7"))
    second = tmp_path / "Dataset042_Answer" / "other__p__2d" / "fold_0"
    second.mkdir(parents=True)
    (second / "checkpoint_final.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="holds 2 models"):
        inspect_checkpoint(tmp_path / "Dataset042_Answer")


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


def test_a_long_run_with_many_classes_is_read(tmp_path: Path) -> None:
    """nnU-Net logs a NumPy number per class and epoch; here more than 5 million instructions."""
    architecture = plans_architecture()
    content = nnunet_run(build(architecture), architecture)
    content["logging"]["dice_per_class_or_region"] = [list(np.linspace(0, 1, 117)) for _ in range(3200)]
    torch.save(content, tmp_path / "run.pth")
    assert inspect_checkpoint(tmp_path / "run.pth")["stages"] == 3
