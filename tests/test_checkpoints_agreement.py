"""What a file holds, what lies beside it and what the user says about it must agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_transfer.checkpoints import Reading, inspect_checkpoint
from nnunet_transfer.cli import main
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.files import write_json
from tests.checkpoint_files import build, nnunet_run, nnunet_v1_state, plans_architecture

pytestmark = pytest.mark.usefixtures("registry")


@pytest.mark.parametrize("holder", ["state_dict", "model", "network_weights"])
def test_a_few_tensors_beside_the_weights_are_not_the_network(tmp_path: Path, holder: str) -> None:
    """Lightning and others store scores as tensors; with two entries they are half of the file's."""
    weights = build(plans_architecture()).state_dict()
    torch.save({holder: weights, "best_score": torch.tensor(0.5)}, tmp_path / "x.pth")
    assert inspect_checkpoint(tmp_path / "x.pth")["stages"] == 3


BOTTLENECK = {
    "block": "dynamic_network_architectures.building_blocks.residual.BottleneckD",
    "bottleneck_channels": [2, 3, 4],
    "stem_channels": 3,
}


def with_settings(residual: bool = True, **settings: Any) -> dict[str, Any]:
    """Return the architecture of a small network with some settings of its own."""
    architecture = plans_architecture(residual)
    architecture["arch_kwargs"] |= settings
    architecture["_kw_requires_import"] += ["block"] if "block" in settings else []
    return architecture


@pytest.mark.parametrize(
    ("trained", "planned", "setting"),
    [
        # a trainer may build a network of its own and leave nnU-Net's plans as they are
        (with_settings(), with_settings(residual=False), "network_class_name"),
        (with_settings(residual=False), with_settings(), "network_class_name"),
        (
            with_settings(),
            with_settings(conv_op="torch.nn.modules.conv.Conv2d", kernel_sizes=3, strides=[1, 2, 2]),
            "conv_op",
        ),
        (with_settings(**BOTTLENECK), with_settings(stem_channels=3), "block"),
        (with_settings(), with_settings(**BOTTLENECK), "block"),
        (
            with_settings(**BOTTLENECK),
            with_settings(**{**BOTTLENECK, "bottleneck_channels": 2}),
            "bottleneck_channels",
        ),
        (with_settings(), with_settings(stem_channels=3), "stem_channels"),
    ],
)
def test_plans_of_another_kind_of_network_are_refused(
    trained: dict[str, Any], planned: dict[str, Any], setting: str, tmp_path: Path
) -> None:
    network = build(trained)
    torch.save(nnunet_run(network, planned), tmp_path / "run.pth")
    with pytest.raises(CheckpointError, match=f"say {setting} .* belong to another network"):
        inspect_checkpoint(tmp_path / "run.pth")
    torch.save(nnunet_run(network, trained), tmp_path / "run.pth")
    assert inspect_checkpoint(tmp_path / "run.pth")["stages"] == 3


def test_names_of_outputs_that_the_network_does_not_have_are_left_out(tmp_path: Path) -> None:
    """`dataset.json` beside the weights may be another's; `byName` would take outputs for what they aren't."""
    architecture = plans_architecture()
    content = nnunet_run(build(architecture, labels=2), architecture)
    content["init_args"]["dataset_json"]["labels"] = {"background": 0, "lesion": 1, "tumour": 2}
    torch.save(content, tmp_path / "run.pth")
    found = inspect_checkpoint(tmp_path / "run.pth")
    assert found["outputs"] == []
    assert "dataset.json names 3 outputs, the network has 2: the names are left out" in found["notes"]
    assert not any("byName" in use for use in found["uses"])
    content["network_weights"] = {k: v for k, v in content["network_weights"].items() if ".seg_layers." not in k}
    torch.save(content, tmp_path / "run.pth")
    found = inspect_checkpoint(tmp_path / "run.pth")
    assert (found["outputs"], found["parts"]) == ([], "encoder+decoder")
    assert not any("byName" in use for use in found["uses"])


def test_names_of_channels_that_the_network_does_not_have_are_left_out_with_a_note(tmp_path: Path) -> None:
    content = nnunet_run(build(plans_architecture()), plans_architecture())
    content["init_args"]["dataset_json"]["channel_names"] = {"0": "T1", "1": "FLAIR"}
    torch.save(content, tmp_path / "run.pth")
    found = inspect_checkpoint(tmp_path / "run.pth")
    assert found["channel_names"] == []
    assert "dataset.json names 2 channels, the network has 1: the names are left out" in found["notes"]


def test_plans_beside_what_is_no_run_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    """Whoever converts a run to safetensors keeps its plans beside it; anybody's may lie beside other files."""
    content = nnunet_run(build(plans_architecture()), plans_architecture())
    torch.save(content["network_weights"], tmp_path / "weights.pth")
    notes = inspect_checkpoint(tmp_path / "weights.pth")["notes"]
    assert not any("plans.json" in note for note in notes)
    write_json(tmp_path / "plans.json", content["init_args"]["plans"])
    notes = inspect_checkpoint(tmp_path / "weights.pth")["notes"]
    assert "plans.json beside the weights isn't used: the file isn't a checkpoint of nnU-Net's" in notes


def test_an_adaptation_plan_beside_another_file_is_not_that_file_s(tmp_path: Path) -> None:
    write_json(tmp_path / "adaptation_plan.json", {"architecture_plans": {"arch_class_name": "ResEncL"}})
    weights = {"mystery.conv.weight": torch.zeros(1, 1, 3, 3, 3)}
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="none of the known formats"):
        inspect_checkpoint(tmp_path / "x.pth")
    torch.save({"network_weights": weights}, tmp_path / "x.pth")
    with pytest.raises(
        CheckpointError, match=r"plan says ResEncL, but the weights have other keys, such as mystery\.conv"
    ):
        inspect_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", ["nnssl", "key map"])
def test_copies_of_a_tensor_must_agree_in_every_form_of_nnunet_s_network(kind: str, tmp_path: Path) -> None:
    weights = {key: tensor.clone() for key, tensor in build(plans_architecture()).state_dict().items()}
    content: dict[str, Any] = {"network_weights": weights}
    reading = Reading()
    if kind == "nnssl":
        content["nnssl_adaptation_plan"] = {"architecture_plans": {"arch_class_name": "ResEncL"}}
    else:
        (tmp_path / "keys.txt").write_text("^encoder = encoder\n")
        reading = Reading(key_map=tmp_path / "keys.txt")
    torch.save(content, tmp_path / "x.pth")
    assert inspect_checkpoint(tmp_path / "x.pth", reading=reading)["stages"] == 3
    weights["encoder.stem.convs.0.all_modules.0.weight"] += 1
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="are one tensor in the network, but their values differ"):
        inspect_checkpoint(tmp_path / "x.pth", reading=reading)


@pytest.mark.parametrize(
    "keys",
    [
        ["conv_blocks_context.0.blocks.0.conv.weight"],
        ["conv_blocks_context.0.0.conv3.weight"],
        ["down_tr64.ops.0.conv1.weight"],
        ["model.0.conv.unit0.conv.weight", "model.1.submodule.0.conv.unit0.conv.weight"],
        ["input_block.conv1.conv.weight"],
        ["model.0.weight"],
    ],
)
def test_copies_under_a_wrapper_s_prefix_must_agree_in_every_layout(keys: list[str], tmp_path: Path) -> None:
    """The last one was loaded, whichever it was."""
    weights = {key: torch.zeros(2, 1, 3, 3, 3) for key in keys}
    torch.save({**weights, f"module.{keys[0]}": torch.ones(2, 1, 3, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"{keys[0]} and module\.{keys[0]} are one tensor in the network"):
        inspect_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("option", [["--fold", "1"], ["--checkpoint", "checkpoint_best.pth"]])
def test_no_file_of_many_is_chosen_where_there_is_one(
    option: list[str], tmp_path: Path, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fold's file given with another fold's number was added as if it were that fold's."""
    path = tmp_path / "fold_0" / "checkpoint_final.pth"
    path.parent.mkdir()
    architecture = plans_architecture()
    torch.save(nnunet_run(build(architecture), architecture), path)
    add = ["--name", "s", "--task", "segmentation", "--domain", "t1"]
    assert main(["sources", "add", str(path), *add, *option]) == 2
    assert "is a single file; leave --fold and --checkpoint out" in capsys.readouterr().err
    assert main(["sources", "add", str(path), *add]) == 0
    assert main(["sources", "inspect", str(registry / "s"), *option]) == 2
    assert "is a published source; leave --map, --fold and --checkpoint out" in capsys.readouterr().err
    assert main(["sources", "inspect", str(tmp_path / "missing.pth"), *option]) == 2
    assert "is not a file" in capsys.readouterr().err


def test_forged_numbers_of_stages_are_refused_before_a_search(tmp_path: Path) -> None:
    """Every stage of MONAI's U-Net is searched for among all tensors: 20,000 of both took a quarter of an hour."""
    keys = [f"encoder.stages.{stage}.conv.unit0.conv.weight" for stage in range(500)]
    torch.save(dict.fromkeys(keys, torch.zeros(1, 1, 1, 1)), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="has 500 stages; at most 16"):
        inspect_checkpoint(tmp_path / "x.pth")


def test_of_a_folder_of_nnunet_v1_the_final_weights_are_read(tmp_path: Path) -> None:
    architecture = plans_architecture(residual=False)
    architecture["arch_kwargs"] |= {"n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2]}
    folder = tmp_path / "nnUNetTrainerV2__nnUNetPlansv2.1" / "fold_0"
    folder.mkdir(parents=True)
    for name in ("model_best.model", "model_final_checkpoint.model", "model_latest.model"):
        torch.save({"state_dict": nnunet_v1_state(build(architecture), 3)}, folder / name)
    notes = inspect_checkpoint(folder.parent)["notes"]
    assert "of 3 weights files, fold_0/model_final_checkpoint.model is read" in notes


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(2).to(torch.float8_e4m3fn),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, dtype=torch.uint16),
    ],
    ids=lambda values: str(values.dtype),
)
def test_values_of_other_types_are_no_reason_to_trust_a_file(values: torch.Tensor, tmp_path: Path) -> None:
    torch.save({**build(plans_architecture()).state_dict(), "encoder.scale": values}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="has values of type torch") as caught:
        inspect_checkpoint(tmp_path / "x.pth")
    assert "--trust" not in str(caught.value)
