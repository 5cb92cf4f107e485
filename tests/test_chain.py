"""The whole life of a model through stock nnU-Net commands, each in its own process, as a lab runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
from nnunet_transfer.files import read_json
from nnunet_transfer.plans import write_transfer_plans
from tests.nnunet_data import write_blob_dataset, write_splits
from tests.sources import save_random_source

SHAPES = {"2d": (32, 32, 4), "3d_fullres": (32, 32, 24)}
PATCHES = {"2d": (32, 32), "3d_fullres": (32, 32, 24)}


def _environment() -> dict[str, str]:
    """One worker process where nnU-Net wants some, and the commands of this very Python first in PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "0"}


def _run(command: str, folders: Path) -> str:
    """Run one shell command after `eval "$(nnunet_transfer env)"`; return its output."""
    script = f'set -e; eval "$(nnunet_transfer env)"; {command}'
    run = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=folders,
        env=_environment(),
    )
    assert run.returncode == 0, f"{command}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
    return run.stdout


def _train_and_kill_after_first_checkpoint(command: str, folders: Path, fold: Path) -> None:
    with subprocess.Popen(
        ["bash", "-c", f'eval "$(nnunet_transfer env)"; exec {command}'],
        cwd=folders,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 240
        while not (fold / "checkpoint_best.pth").exists():
            assert process.poll() is None, "the training ended before its first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint after four minutes"
            time.sleep(0.05)
        process.kill()
    assert not (fold / "checkpoint_final.pth").exists(), "the training was over before it could be interrupted"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("configuration", "base"), [("2d", "nnUNetTrainerT1Segmentation"), ("3d_fullres", "nnUNetTrainerTransfer")]
)
def test_train_resume_validate_predict_select_export_install(
    configuration: str, base: str, nnunet_folders: Path
) -> None:
    raw = nnunet_folders / "raw"
    dataset = write_blob_dataset(raw, 501, cases=4, shape=SHAPES[configuration], labels=2)
    preprocessed = extract_fingerprint_in_process(dataset)
    plans_options = {"configurations": [configuration], "patch_size": PATCHES[configuration], "batch_size": 2}
    plans = write_transfer_plans(dataset, profile="demo", **plans_options).stem
    save_random_source("t1_segmentation", preprocessed / f"{plans}.json", configuration)
    if base == "nnUNetTrainerTransfer":
        plans = write_transfer_plans(dataset, source="t1_segmentation", **plans_options).stem
    preprocess_in_process(dataset, plans, [configuration])
    write_splits(preprocessed)

    trainer = f"{base}_12epochs_2iterations"
    train = f"nnUNetv2_train 501 {configuration} {{fold}} -tr {trainer} -p {plans} -device cpu --npz"
    model = nnunet_folders / "results" / dataset / f"{trainer}__{plans}__{configuration}"
    _train_and_kill_after_first_checkpoint(train.format(fold=0), nnunet_folders, model / "fold_0")

    # the source is gone from here on: --c, --val and inference must not need it
    report = read_json(model / "fold_0" / "transfer_report.json")
    assert report["coverage"]["encoder"] == pytest.approx(1.0)
    sources = nnunet_folders / "results" / "sources"
    sources.rename(nnunet_folders / "sources_away")
    continued = _run(train.format(fold=0) + " --c", nnunet_folders)
    assert "Epoch 0\n" not in continued
    assert "Epoch 11" in continued
    summary = model / "fold_0" / "validation" / "summary.json"
    first = read_json(summary)
    summary.unlink()
    _run(train.format(fold=0) + " --val", nnunet_folders)
    assert read_json(summary)["foreground_mean"]["Dice"] == pytest.approx(first["foreground_mean"]["Dice"], abs=1e-6)

    (nnunet_folders / "sources_away").rename(sources)
    _run(train.format(fold=1), nnunet_folders)
    _run(
        f"nnUNetv2_find_best_configuration 501 -c {configuration} -tr {trainer} -p {plans} -f 0 1 "
        "--disable_ensembling -np 1",
        nnunet_folders,
    )
    predict = (
        f"nnUNetv2_predict -i raw/{dataset}/imagesTr -o {{out}} -d 501 -c {configuration} -f 0 1 -tr {trainer} "
        f"-p {plans} -device cpu -npp 1 -nps 1"
    )
    _run(predict.format(out="before"), nnunet_folders)
    _run(
        f"nnUNetv2_export_model_to_zip -d 501 -o model.zip -c {configuration} -f 0 1 -tr {trainer} -p {plans}",
        nnunet_folders,
    )
    (nnunet_folders / "results").rename(nnunet_folders / "results_away")
    (nnunet_folders / "results").mkdir()
    _run("nnUNetv2_install_pretrained_model_from_zip model.zip", nnunet_folders)
    _run(predict.format(out="after"), nnunet_folders)
    for before in sorted((nnunet_folders / "before").glob("*.nii.gz")):
        after = nib.load(nnunet_folders / "after" / before.name)
        assert np.array_equal(np.asarray(nib.load(before).dataobj), np.asarray(after.dataobj)), before.name
