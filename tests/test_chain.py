"""The whole life of a model through stock nnU-Net commands, each in its own process, as a lab runs them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import pytest
import torch

from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.naming import ARMS, DEFAULT_PRETRAINERS, TRANSFER
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.trainers import get_trainer_class
from tests.at_an_event.sitecustomize import environment as at_an_event
from tests.nnunet_data import write_blob_dataset, write_picture_dataset, write_splits
from tests.sources import save_random_source
from tests.warm import run_warm

SCRATCH = next(arm for arm, source in ARMS.items() if source is None)
SEGMENTATION_PRETRAINER = DEFAULT_PRETRAINERS["segmentation"]
#: what starts at random
RANDOM_START = (SCRATCH, SEGMENTATION_PRETRAINER)
SHAPES = {"2d": (32, 32, 4), "3d_fullres": (24, 24, 16)}
PATCHES = {"2d": (32, 32), "3d_fullres": (24, 24, 16)}


def _environment() -> dict[str, str]:
    """One worker process where nnU-Net wants some, and the commands of this very Python first in PATH.

    On a CPU, nnU-Net takes as many threads as there are cores; beside other tests they would wait for one another, and
    so must not spin meanwhile. Fewer threads (OMP_THREAD_LIMIT) than torch counts on let oneDNN wait for ever.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "0", "OMP_WAIT_POLICY": "passive"}


class _Shell(Protocol):
    """Runs a command line in the nnU-Net folders' parent; returns its output, and fails if it ends badly.

    `killed_at`: pattern of paths; the command is killed as soon as it has written such a file.
    """

    def __call__(self, command: str, folders: Path, killed_at: str | None = None) -> str: ...


def _run(command: str, folders: Path, killed_at: str | None = None) -> str:
    """Run one shell command after `eval "$(nnunet_transfer env)"`."""
    environment = _environment() | (at_an_event(killed_at, signal.SIGKILL) if killed_at else {})
    if command.startswith("nnUNetv2_train") and not command.endswith("--c"):
        # validation would start a Python of its own, which imports nnU-Net: once is enough, where a training goes on
        environment["nnUNet_def_n_proc"] = "0"
    run = subprocess.run(
        ["bash", "-c", f'set -e; eval "$(nnunet_transfer env)"; exec {command}'],
        capture_output=True,
        text=True,
        cwd=folders,
        env=environment,
    )
    expected = -signal.SIGKILL if killed_at else 0
    assert run.returncode == expected, f"{command}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
    return run.stdout


def _run_warm(command: str, folders: Path, killed_at: str | None = None) -> str:
    """Run one command in a process that has nnU-Net imported."""
    # prediction needs a number of workers above 0, validation starts them then
    workers = {"nnUNet_def_n_proc": "0"} if command.startswith("nnUNetv2_train") else {}
    ended = run_warm(shlex.split(command), folders, _environment() | workers, killed_at=killed_at)
    assert ended.status == (-signal.SIGKILL if killed_at else 0), f"{command}\n{ended.output[-3000:]}"
    return ended.output


#: each command in a process that starts from nothing, as in a shell
FULL = ("3d_fullres", "nnUNetTrainerTransfer")
#: every trainer that segments, and for each configuration those that can differ: at random, from a source of one
#: channel, from one of three in 2D, with the source that the plans name, and the pretrainer
WARM = [
    ("2d", "nnUNetTrainerScratch"),
    ("2d", "nnUNetTrainerNaturalSegmentation"),
    ("2d", TRANSFER),
    ("2d", SEGMENTATION_PRETRAINER),
    ("3d_fullres", "nnUNetTrainerScratch"),
    ("3d_fullres", "nnUNetTrainerNaturalSelfSupervised"),
    ("3d_fullres", "nnUNetTrainerT1SelfSupervised"),
    ("3d_fullres", SEGMENTATION_PRETRAINER),
]
#: beside them, labels and images of other kinds: regions, with voxels to ignore; in colour; and thick slices, from a source
#: of thin ones
REGIONS = ("2d", "nnUNetTrainerT1Segmentation")
PICTURES = ("2d", "nnUNetTrainerNaturalClassification")
THICK_SLICES = ("3d_fullres", "nnUNetTrainerT1Classification")


def test_every_trainer_that_segments_is_among_them() -> None:
    assert {base for _, base in (*WARM, REGIONS, PICTURES, THICK_SLICES)} == {*ARMS, TRANSFER, SEGMENTATION_PRETRAINER}


@pytest.mark.slow
def test_train_resume_validate_predict_select_export_install(nnunet_folders: Path) -> None:
    _live(*FULL, nnunet_folders, _run)
    assert {path.parent.name for path in nnunet_folders.glob("results_away/*/*/*/progress.png")} == {"fold_0", "fold_1"}


@pytest.mark.slow
@pytest.mark.parametrize(("configuration", "base"), WARM)
def test_the_same_for_every_trainer_that_segments(configuration: str, base: str, nnunet_folders: Path) -> None:
    _live(configuration, base, nnunet_folders, _run_warm)


@pytest.mark.slow
def test_the_same_for_regions_and_voxels_to_ignore(nnunet_folders: Path) -> None:
    dataset = write_blob_dataset(nnunet_folders / "raw", 501, cases=4, shape=SHAPES["2d"], labels=3)
    description = nnunet_folders / "raw" / dataset / "dataset.json"
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    write_json(description, read_json(description) | {"labels": labels, "regions_class_order": [1, 2]})
    _live(*REGIONS, nnunet_folders, _run_warm, dataset)
    for case, probabilities in _probabilities(nnunet_folders / "after").items():
        assert len(probabilities) == 2, "a channel for each region"
        predicted = np.asarray(nib.load(nnunet_folders / "after" / f"{case}.nii.gz").dataobj)
        assert set(np.unique(predicted)) <= {0, 1, 2}, "nothing is predicted to be ignored"


@pytest.mark.slow
def test_the_same_for_pictures_in_colour(nnunet_folders: Path) -> None:
    dataset = write_picture_dataset(nnunet_folders / "raw", 501, cases=4, shape=(32, 40), labels=2)
    report = _live(*PICTURES, nnunet_folders, _run_warm, dataset)
    assert report["coverage"]["stem"] == 1.0
    assert not any(t["rules"] for t in report["tensors"] if t["part"] == "stem")
    assert "channels: T1, T1, T1 in the source, rgb_to_0_1, rgb_to_0_1, rgb_to_0_1 here" in report["notes"]


@pytest.mark.slow
def test_the_same_for_thick_slices_from_a_source_of_thin_ones(nnunet_folders: Path) -> None:
    shape, spacing = (32, 32, 8), (1.0, 1.0, 5.0)
    dataset = write_blob_dataset(nnunet_folders / "raw", 501, cases=4, shape=shape, labels=2, spacing=spacing)
    report = _live(*THICK_SLICES, nnunet_folders, _run_warm, dataset, thick_slices=True)
    assert report["coverage"]["stem"] == 1.0
    changed = {t["key"]: (t["source_shape"][2:], t["target_shape"][2:]) for t in report["tensors"] if t["rules"]}
    assert changed.pop("encoder.stem.convs.0.conv.weight") == ([3, 3, 3], [1, 3, 3])
    assert "stride of stage 1: [2, 2, 2] in the source, [1, 2, 2] here" in report["notes"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "self_supervised"])
def test_pretrainers_without_masks_resume_validate_and_refuse_to_predict(task: str, nnunet_folders: Path) -> None:
    dataset = write_blob_dataset(nnunet_folders / "raw", 501, cases=6, shape=SHAPES["2d"], labels=2)
    rows = "".join(f"case{i:02d},{'ab'[i // 2 % 2]}\n" for i in range(6))
    (nnunet_folders / "raw" / dataset / "classes.csv").write_text(f"case,class\n{rows}")
    preprocessed = extract_fingerprint_in_process(dataset, foreground_voxels=100_000)
    plans = write_transfer_plans(dataset, profile="demo", patch_size=PATCHES["2d"], batch_size=2).stem
    preprocess_in_process(dataset, plans, ["2d"])
    write_splits(preprocessed)
    trainer = f"{DEFAULT_PRETRAINERS[task]}_3epochs_2iterations"
    train = f"nnUNetv2_train 501 2d 0 -tr {trainer} -p {plans} -device cpu"
    model = nnunet_folders / "results" / dataset / f"{trainer}__{plans}__2d"
    _run_warm(train, nnunet_folders, killed_at="*/checkpoint_best.pth")
    sources = nnunet_folders / "results" / "sources"
    assert not sources.exists(), "nothing is a source before the training is over"

    continued = _run_warm(train + " --c", nnunet_folders)
    assert "Epoch 0\n" not in continued
    assert "Epoch 2\n" in continued
    (source,) = sources.iterdir()
    assert source.name.endswith(task)
    summary = model / "fold_0" / "validation" / "summary.json"
    first = {key: value for key, value in read_json(summary).items() if isinstance(value, float)}
    assert first
    summary.unlink()
    _run_warm(train + " --val", nnunet_folders)
    again = read_json(summary)
    assert {key: again[key] for key in first} == pytest.approx(first, abs=1e-5)
    predict = (
        f"nnUNetv2_predict -i raw/{dataset}/imagesTr -o out -d 501 -c 2d -f 0 -tr {trainer} -p {plans} -device cpu "
        "-npp 1 -nps 1"
    )
    refused = run_warm(shlex.split(predict), nnunet_folders, _environment())
    assert refused.status != 0
    assert "predicts no masks" in refused.output
    assert "Traceback" not in refused.output


@pytest.mark.slow
def test_a_cascade_lives_through_all_of_it(nnunet_folders: Path) -> None:
    dataset = write_blob_dataset(nnunet_folders / "raw", 501, cases=4, shape=(36, 36, 36), labels=2)
    preprocessed = extract_fingerprint_in_process(dataset, foreground_voxels=10_000)
    # the first stage's name is enough to get both, and what the second inherits
    path = write_transfer_plans(
        dataset, profile="demo", configurations=["3d_lowres"], patch_size=(16, 16, 16), batch_size=2
    )
    preprocess_in_process(dataset, path.stem, ["3d_lowres", "3d_fullres"])
    write_splits(preprocessed)
    save_random_source("t1_segmentation", path, "3d_fullres")
    trainer = "nnUNetTrainerT1Segmentation_noMirroring_2epochs_1iterations"
    options = f"-tr {trainer} -p {path.stem} -device cpu"
    results = nnunet_folders / "results" / dataset

    def model(configuration: str) -> Path:
        return results / f"{trainer}__{path.stem}__{configuration}"

    early = get_trainer_class(trainer)(
        {**read_json(path), "continue_training": False},
        "3d_cascade_fullres",
        0,
        read_json(preprocessed / "dataset.json"),
        torch.device("cpu"),
    )
    with pytest.raises(SystemExit, match=r"reads what 3d_lowres predicted .* lacks 4 of 4 cases"):
        early.on_train_start()

    for fold in (0, 1):
        _run_warm(f"nnUNetv2_train 501 3d_lowres {fold} {options}", nnunet_folders)
    train = f"nnUNetv2_train 501 3d_cascade_fullres 0 {options}"
    _run_warm(train, nnunet_folders, killed_at="*/checkpoint_best.pth")
    continued = _run_warm(f"{train} --c", nnunet_folders)
    assert "Epoch 0\n" not in continued
    validated = model("3d_cascade_fullres") / "fold_0" / "validation" / "summary.json"
    first = read_json(validated)
    validated.unlink()
    _run_warm(f"{train} --val", nnunet_folders)
    assert read_json(validated)["metric_per_case"] == first["metric_per_case"]

    command = f"nnUNetv2_predict -i raw/{dataset}/imagesTr -d 501 -f 0 {options} -npp 0 -nps 0 --save_probabilities"

    def predict(low: str, full: str) -> None:
        _run_warm(f"{command} -c 3d_lowres -o {low}", nnunet_folders)
        _run_warm(f"{command} -c 3d_cascade_fullres -prev_stage_predictions {low} -o {full}", nnunet_folders)

    predict("low", "full")
    report = read_json(model("3d_cascade_fullres") / "fold_0" / "transfer_report.json")
    assert report["channels_at_zero"] == [f"class{k} (label of the previous stage)" for k in (1, 2)]
    assert 0.3 < report["coverage"]["stem"] < 0.4
    summary = read_json(model("3d_cascade_fullres") / "fold_0" / "validation" / "summary.json")
    assert len(summary["metric_per_case"]) == 2
    for case in (nnunet_folders / "raw" / dataset / "labelsTr").iterdir():
        assert nib.load(nnunet_folders / "full" / case.name).shape == (36, 36, 36)
    _run_warm(
        f"nnUNetv2_export_model_to_zip -d 501 -o model.zip -c 3d_lowres 3d_cascade_fullres -f 0 -tr {trainer} "
        f"-p {path.stem}",
        nnunet_folders,
    )
    (nnunet_folders / "results").rename(nnunet_folders / "results_away")
    (nnunet_folders / "results").mkdir()
    _run_warm("nnUNetv2_install_pretrained_model_from_zip model.zip", nnunet_folders)
    predict("low_after", "full_after")
    before, after = (_probabilities(nnunet_folders / folder) for folder in ("full", "full_after"))
    assert len(before) == 4
    assert all(np.array_equal(probabilities, after[case]) for case, probabilities in before.items())


def _save_source(base: str, plans: Path, configuration: str) -> None:
    """Save what an arm starts from: natural images are in colour and 2D."""
    if base in RANDOM_START:
        return
    name = ARMS.get(base) or "t1_segmentation"
    if name.startswith("natural"):
        save_random_source(name, plans, "2d", channels=3)
    else:
        save_random_source(name, plans, configuration)


def _save_source_of_thick_slices(name: str, plans: Path) -> None:
    """Save a source whose network, as nnU-Net would plan it for thick slices, convolves and pools them in plane first."""
    content = read_json(plans)
    network = content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network["kernel_sizes"][0] = [1, 3, 3]
    network["strides"][1] = [1, 2, 2]
    write_json(plans.with_name("thick.json"), content)
    save_random_source(name, plans.with_name("thick.json"), "3d_fullres")


def _live(
    configuration: str,
    base: str,
    nnunet_folders: Path,
    run: _Shell,
    dataset: str = "",
    thick_slices: bool = False,
) -> dict[str, Any]:
    """Live through everything with two folds, the predictions before and after being the same.

    Parameters
    ----------
    dataset : of four cases in `raw`; default: blobs are written
    thick_slices : plan the network of a source of such images

    Returns
    -------
    dict
        The transfer report of fold 0; empty without a source.
    """
    raw = nnunet_folders / "raw"
    dataset = dataset or write_blob_dataset(raw, 501, cases=4, shape=SHAPES[configuration], labels=2)
    preprocessed = extract_fingerprint_in_process(dataset, foreground_voxels=100_000)
    plans_options = {"patch_size": (8, 32, 32) if thick_slices else PATCHES[configuration], "batch_size": 2}
    plans = write_transfer_plans(dataset, profile="demo", **plans_options).stem
    _save_source(base, preprocessed / f"{plans}.json", configuration)
    if thick_slices:
        _save_source_of_thick_slices("thick", preprocessed / f"{plans}.json")
        plans = write_transfer_plans(dataset, source="thick", configurations=[configuration], **plans_options).stem
    if base == TRANSFER:
        plans = write_transfer_plans(
            dataset, source="t1_segmentation", configurations=[configuration], **plans_options
        ).stem
    preprocess_in_process(dataset, plans, [configuration])
    write_splits(preprocessed)

    trainer = f"{base}_3epochs_2iterations"
    train = f"nnUNetv2_train 501 {configuration} {{fold}} -tr {trainer} -p {plans} -device cpu --npz"
    model = nnunet_folders / "results" / dataset / f"{trainer}__{plans}__{configuration}"
    run(train.format(fold=0), nnunet_folders, killed_at="*/checkpoint_best.pth")

    # the source is gone from here on: --c, --val and inference must not need it
    sources = nnunet_folders / "results" / "sources"
    report: dict[str, Any] = {}
    if base not in RANDOM_START:
        report = read_json(model / "fold_0" / "transfer_report.json")
        assert report["coverage"]["encoder"] == pytest.approx(1.0)
        sources.rename(nnunet_folders / "sources_away")
    continued = run(train.format(fold=0) + " --c", nnunet_folders)
    assert "Epoch 0\n" not in continued
    assert "Epoch 2\n" in continued
    summary = model / "fold_0" / "validation" / "summary.json"
    first = read_json(summary)
    summary.unlink()
    run(train.format(fold=0) + " --val", nnunet_folders)
    assert read_json(summary)["foreground_mean"]["Dice"] == pytest.approx(first["foreground_mean"]["Dice"], abs=1e-6)

    if base not in RANDOM_START:
        (nnunet_folders / "sources_away").rename(sources)
    run(train.format(fold=1), nnunet_folders)
    run(
        f"nnUNetv2_find_best_configuration 501 -c {configuration} -tr {trainer} -p {plans} -f 0 1 "
        "--disable_ensembling -np 1",
        nnunet_folders,
    )
    # mirrored, that is the same pass eight times in 3D: one life, those in 2D and all validations do it
    once = " --disable_tta" if run is _run_warm and configuration != "2d" else ""
    predict = (
        f"nnUNetv2_predict -i raw/{dataset}/imagesTr -o {{out}} -d 501 -c {configuration} -f 0 1 -tr {trainer} "
        f"-p {plans} -device cpu -npp {{workers}} -nps {{workers}} --save_probabilities{once}"
    )
    run(predict.format(out="before", workers=int(run is _run)), nnunet_folders)
    run(
        f"nnUNetv2_export_model_to_zip -d 501 -o model.zip -c {configuration} -f 0 1 -tr {trainer} -p {plans}",
        nnunet_folders,
    )
    (nnunet_folders / "results").rename(nnunet_folders / "results_away")
    (nnunet_folders / "results").mkdir()
    run("nnUNetv2_install_pretrained_model_from_zip model.zip", nnunet_folders)
    run(predict.format(out="after", workers=0), nnunet_folders)
    before, after = (_probabilities(nnunet_folders / folder) for folder in ("before", "after"))
    assert len(before) == 4
    assert before.keys() == after.keys()
    for case, probabilities in before.items():
        assert probabilities.std() > 0
        assert np.array_equal(probabilities, after[case]), case
    ending = read_json(raw / dataset / "dataset.json")["file_ending"]
    assert {path.name for path in (nnunet_folders / "after").glob(f"*{ending}")} == {
        f"{case}{ending}" for case in before
    }
    return report


def _probabilities(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path)["probabilities"] for path in folder.glob("*.npz")}
