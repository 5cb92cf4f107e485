"""A published STU-Net and Models Genesis' U-Net from their files to a prediction of the fine-tuned network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_transfer._nnunet import (
    extract_fingerprint_in_process,
    preprocess_in_process,
    run_training_in_process,
    unwrapped,
)
from nnunet_transfer.cli import main
from nnunet_transfer.files import read_json
from nnunet_transfer.planners import get_planner_class
from nnunet_transfer.plans.architectures import divisor
from nnunet_transfer.sources import load_source
from nnunet_transfer.trainers import get_trainer_class
from tests.nnunet_data import write_blob_dataset, write_splits
from tests.test_monai_and_anatomix import RECORDED as MONAI_AND_ANATOMIX
from tests.test_monai_and_anatomix import written
from tests.test_networks import content

CPU = torch.device("cpu")
#: recorded network, configuration, patch, recipe and scope
WAYS = [
    ("STU-Net, one block a stage", "3d_fullres", (64, 32, 32), "frozenEncoder"),
    ("STU-Net, one block a stage", "2d", (64, 32), "layerwise"),
    ("Models Genesis", "3d_fullres", (16, 16, 16), "layerwise_encoderOnly"),
    ("SuPreM", "2d", (16, 16), "warmup"),
    ("MONAI's U-Net, two convolutions a unit", "3d_fullres", (16, 16, 16), "layerwise"),
    ("anatomix-dev", "2d", (16, 16), "frozenEncoder"),
]


@pytest.mark.parametrize(("name", "configuration", "patch", "recipe"), WAYS)
def test_add_plan_train_and_predict(
    name: str,
    configuration: str,
    patch: tuple[int, ...],
    recipe: str,
    nnunet_folders: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shape = (*patch[::-1], 3) if configuration == "2d" else patch[::-1]
    dataset = write_blob_dataset(nnunet_folders / "raw", 511, cases=3, shape=shape, channels=("T1", "FLAIR"))
    if name in MONAI_AND_ANATOMIX:
        path = written(name, nnunet_folders)
    else:
        path = nnunet_folders / "file.model"
        torch.save(content(name), path)
    add = ["sources", "add", str(path), "--name", "mine", "--task", "segmentation"]
    assert main([*add, "--domain", "ct", "--licence", "CC0", "--trained-on", "TotalSegmentator"]) == 0
    assert main(["sources", "show", "mine", "--json"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown[shown.index("{") :])["licence"] == "CC0"
    preprocessed = extract_fingerprint_in_process(dataset, foreground_voxels=10_000)
    options = ["-c", configuration, "--patch-size", *map(str, patch), "--batch-size", "2"]
    assert main(["plan", "-d", "511", "--source", "mine", *options]) == 0
    plans = "nnUNetPlans_from_mine"
    architecture = read_json(preprocessed / f"{plans}.json")["configurations"][configuration]["architecture"]
    assert architecture["network_class_name"].startswith("nnunet_transfer.networks.")
    preprocess_in_process(dataset, plans, [configuration])
    write_splits(preprocessed, 3)

    trainer = f"nnUNetTrainerTransfer_{recipe}_1epochs_1iterations"
    trained = run_training_in_process(dataset, configuration, 0, get_trainer_class(trainer), plans, device=CPU)
    fold = Path(trained.output_folder)
    report = read_json(fold / "transfer_report.json")
    whole = "encoderOnly" not in recipe
    assert report["coverage"] == {"stem": 1.0, "encoder": 1.0, "decoder": float(whole)}
    (log,) = fold.glob("training_log_*.txt")
    text = log.read_text()
    assert "Transfer report: source mine" in text
    assert "licence CC0; trained on TotalSegmentator" in text
    known = load_source("mine").card.input_channels
    assert ("input channels 1→2 (mean)" in text) == (known == 1)
    source = load_source("mine").tensors()
    network = unwrapped(trained.network)
    deep = {"STU-Net": "3.0.conv2", "MONAI's": "2.bottom.conv.unit1.conv", "anatomix-dev": "2.units.1.conv"}
    key = f"encoder.stages.{deep.get(name.split(',')[0].split()[0], '3.ops.1.conv1')}.weight"
    moved = source[key] if configuration != "2d" else source[key].sum(2)
    assert torch.equal(network.get_parameter(key).data, moved) == recipe.startswith("frozen")
    assert read_json(fold / "validation" / "summary.json")["metric_per_case"]

    # as nnUNetv2_predict opens a model: from its folder, without the source
    predictor = nnUNetPredictor(device=CPU, use_mirroring=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(fold.parent), (0,), "checkpoint_final.pth")
    image = np.random.default_rng(0).normal(size=(2, *shape[::-1])).astype(np.float32)
    label = predictor.predict_single_npy_array(image, {"spacing": [1.0, 1.0, 1.0]})
    assert label.shape == image.shape[1:]
    assert type(predictor.network).__module__.startswith("nnunet_transfer.networks.")


@pytest.mark.parametrize("name", ["STU-Net, one block a stage", "Models Genesis"])
def test_patches_follow_memory_and_strides(name: str, nnunet_folders: Path) -> None:
    dataset = write_blob_dataset(nnunet_folders / "raw", 512, cases=2, shape=(80, 72, 60))
    torch.save(content(name), nnunet_folders / "file.model")
    add = ["sources", "add", str(nnunet_folders / "file.model"), "--name", "mine", "--task", "segmentation"]
    assert main([*add, "--domain", "ct"]) == 0
    extract_fingerprint_in_process(dataset, foreground_voxels=10_000)
    sizes = {}
    for memory in (0.02, 4, 24):
        planner = get_planner_class("nnUNetPlannerTransfer_from_mine")(dataset, memory, plans_name=f"p{memory}")
        configurations = planner.plan_experiment()["configurations"]
        for configuration in (configurations[c] for c in ("2d", "3d_fullres")):
            steps = divisor(configuration["architecture"])
            assert all(size % step == 0 for size, step in zip(configuration["patch_size"], steps, strict=True))
            assert tuple(configuration["patch_size"]) != steps
        fullres = configurations["3d_fullres"]
        sizes[memory] = np.prod(fullres["patch_size"]) * fullres["batch_size"]
    assert sizes[0.02] < sizes[4] <= sizes[24]


def test_a_patch_that_leaves_one_voxel_is_refused(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_blob_dataset(nnunet_folders / "raw", 513, cases=2, shape=(32, 32, 32))
    torch.save(content("STU-Net, one block a stage"), nnunet_folders / "file.model")
    add = ["sources", "add", str(nnunet_folders / "file.model"), "--name", "mine", "--task", "segmentation"]
    assert main([*add, "--domain", "ct"]) == 0
    extract_fingerprint_in_process(dataset, foreground_voxels=10_000)
    plan = ["plan", "-d", "513", "--source", "mine", "-c", "3d_fullres", "--patch-size"]
    assert main([*plan, "32", "32", "32"]) == 2
    assert "deepest stage a single voxel" in capsys.readouterr().err
    assert main([*plan, "48", "32", "32"]) == 2
    assert "not a multiple of 32 32 32" in capsys.readouterr().err
    assert main([*plan, "64", "32", "32"]) == 0
