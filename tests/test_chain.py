"""The whole life of a model through stock nnU-Net commands, each in its own process, as a lab runs them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import nibabel as nib
import numpy as np
import pytest
import torch

from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
from nnunet_transfer.files import read_json
from nnunet_transfer.naming import ARMS, DEFAULT_PRETRAINERS, TRANSFER
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.trainers import get_trainer_class
from tests.nnunet_data import write_blob_dataset, write_splits
from tests.sources import save_random_source

SCRATCH = next(arm for arm, source in ARMS.items() if source is None)
SEGMENTATION_PRETRAINER = DEFAULT_PRETRAINERS["segmentation"]
#: what starts at random
RANDOM_START = (SCRATCH, SEGMENTATION_PRETRAINER)
SHAPES = {"2d": (32, 32, 4), "3d_fullres": (32, 32, 24)}
PATCHES = {"2d": (32, 32), "3d_fullres": (32, 32, 24)}


def _environment() -> dict[str, str]:
    """One worker process where nnU-Net wants some, and the commands of this very Python first in PATH.

    nnU-Net takes as many threads as there are cores on a CPU; beside other tests they would wait for one another.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "0", "OMP_THREAD_LIMIT": "1"}


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


class _Shell(Protocol):
    """Runs a command line in the nnU-Net folders' parent and returns its output."""

    def __call__(self, command: str, folders: Path) -> str: ...


#: runs the functions behind commands one after another: importing nnU-Net takes longer than most of them
_ENTRY_POINTS = """
import contextlib, importlib.metadata, io, json, shlex, sys, traceback
commands = {e.name: e for e in importlib.metadata.entry_points(group="console_scripts")}
for line in sys.stdin:
    sys.argv = shlex.split(json.loads(line))
    output = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            code = commands[sys.argv[0]].load()() or 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
    print(json.dumps([code, output.getvalue()]), flush=True)
"""


@contextlib.contextmanager
def _one_process(folders: Path, workers: str) -> Iterator[_Shell]:
    """Give a way to run stock commands in one process of their own."""
    environment = _environment() | {"nnUNet_def_n_proc": workers}
    with subprocess.Popen(
        [sys.executable, "-c", _ENTRY_POINTS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folders,
        env=environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(command: str, folders: Path) -> str:
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
            code, output = json.loads(process.stdout.readline())
            assert code == 0, f"{command}\n{output[-3000:]}"
            return output

        yield run
        process.stdin.close()


SEGMENTING = (*ARMS, TRANSFER, SEGMENTATION_PRETRAINER)
CONFIGURATIONS = ("2d", "3d_fullres")
#: each command in a process of its own
FULL = (("2d", "nnUNetTrainerT1Segmentation"), ("3d_fullres", "nnUNetTrainerTransfer"))


@pytest.mark.slow
@pytest.mark.parametrize(("configuration", "base"), FULL)
def test_train_resume_validate_predict_select_export_install(
    configuration: str, base: str, nnunet_folders: Path
) -> None:
    _live(configuration, base, nnunet_folders, _run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("configuration", "base"),
    [(c, base) for c in CONFIGURATIONS for base in SEGMENTING if (c, base) not in FULL],
)
def test_the_same_for_every_trainer_that_segments_in_one_process(
    configuration: str, base: str, nnunet_folders: Path
) -> None:
    # prediction needs a number of workers above 0, validation starts them then
    with _one_process(nnunet_folders, "0") as train, _one_process(nnunet_folders, "1") as other:

        def run(command: str, folders: Path) -> str:
            return (train if command.startswith("nnUNetv2_train") else other)(command, folders)

        _live(configuration, base, nnunet_folders, run)


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
    trainer = f"{DEFAULT_PRETRAINERS[task]}_12epochs_2iterations"
    train = f"nnUNetv2_train 501 2d 0 -tr {trainer} -p {plans} -device cpu"
    model = nnunet_folders / "results" / dataset / f"{trainer}__{plans}__2d"
    _train_and_kill_after_first_checkpoint(train, nnunet_folders, model / "fold_0")
    sources = nnunet_folders / "results" / "sources"
    assert not sources.exists(), "nothing is a source before the training is over"

    continued = _run(train + " --c", nnunet_folders)
    assert "Epoch 0\n" not in continued
    assert "Epoch 11" in continued
    (source,) = sources.iterdir()
    assert source.name.endswith(task)
    summary = model / "fold_0" / "validation" / "summary.json"
    first = {key: value for key, value in read_json(summary).items() if isinstance(value, float)}
    assert first
    summary.unlink()
    _run(train + " --val", nnunet_folders)
    again = read_json(summary)
    assert {key: again[key] for key in first} == pytest.approx(first, abs=1e-5)
    refused = subprocess.run(
        [
            "bash",
            "-c",
            f'eval "$(nnunet_transfer env)"; exec nnUNetv2_predict -i raw/{dataset}/imagesTr -o out -d 501 -c 2d -f 0 '
            f"-tr {trainer} -p {plans} -device cpu -npp 1 -nps 1",
        ],
        capture_output=True,
        text=True,
        cwd=nnunet_folders,
        env=_environment(),
    )
    assert refused.returncode != 0
    assert "predicts no masks" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_cascade_trains_validates_and_predicts(nnunet_folders: Path) -> None:
    dataset = write_blob_dataset(nnunet_folders / "raw", 501, cases=4, shape=(36, 36, 36), labels=2)
    preprocessed = extract_fingerprint_in_process(dataset, foreground_voxels=10_000)
    # the first stage's name is enough to get both, and what the second inherits
    path = write_transfer_plans(
        dataset, profile="demo", configurations=["3d_lowres"], patch_size=(16, 16, 16), batch_size=2
    )
    preprocess_in_process(dataset, path.stem, ["3d_lowres", "3d_fullres"])
    write_splits(preprocessed)
    save_random_source("t1_segmentation", path, "3d_fullres")
    trainer = "nnUNetTrainerT1Segmentation_noMirroring_1epochs_1iterations"
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

    with _one_process(nnunet_folders, "0") as train, _one_process(nnunet_folders, "1") as predict:
        for fold in (0, 1):
            train(f"nnUNetv2_train 501 3d_lowres {fold} {options}", nnunet_folders)
        train(f"nnUNetv2_train 501 3d_cascade_fullres 0 {options}", nnunet_folders)
        command = f"nnUNetv2_predict -i raw/{dataset}/imagesTr -d 501 -f 0 {options} -npp 0 -nps 0"
        predict(f"{command} -c 3d_lowres -o low", nnunet_folders)
        predict(f"{command} -c 3d_cascade_fullres -prev_stage_predictions low -o full", nnunet_folders)
    report = read_json(model("3d_cascade_fullres") / "fold_0" / "transfer_report.json")
    assert report["channels_at_zero"] == [f"class{k} (label of the previous stage)" for k in (1, 2)]
    assert 0.3 < report["coverage"]["stem"] < 0.4
    summary = read_json(model("3d_cascade_fullres") / "fold_0" / "validation" / "summary.json")
    assert len(summary["metric_per_case"]) == 2
    for case in (nnunet_folders / "raw" / dataset / "labelsTr").iterdir():
        assert nib.load(nnunet_folders / "full" / case.name).shape == (36, 36, 36)


def _save_source(base: str, plans: Path, configuration: str) -> None:
    """Save what an arm starts from: natural images are in colour and 2D."""
    if base in RANDOM_START:
        return
    name = ARMS.get(base) or "t1_segmentation"
    if name.startswith("natural"):
        save_random_source(name, plans, "2d", channels=3)
    else:
        save_random_source(name, plans, configuration)


def _live(configuration: str, base: str, nnunet_folders: Path, run: _Shell) -> None:
    raw = nnunet_folders / "raw"
    dataset = write_blob_dataset(raw, 501, cases=4, shape=SHAPES[configuration], labels=2)
    preprocessed = extract_fingerprint_in_process(dataset, foreground_voxels=100_000)
    plans_options = {"patch_size": PATCHES[configuration], "batch_size": 2}
    plans = write_transfer_plans(dataset, profile="demo", **plans_options).stem
    _save_source(base, preprocessed / f"{plans}.json", configuration)
    if base == TRANSFER:
        plans = write_transfer_plans(
            dataset, source="t1_segmentation", configurations=[configuration], **plans_options
        ).stem
    preprocess_in_process(dataset, plans, [configuration])
    write_splits(preprocessed)

    trainer = f"{base}_12epochs_2iterations"
    train = f"nnUNetv2_train 501 {configuration} {{fold}} -tr {trainer} -p {plans} -device cpu --npz"
    model = nnunet_folders / "results" / dataset / f"{trainer}__{plans}__{configuration}"
    _train_and_kill_after_first_checkpoint(train.format(fold=0), nnunet_folders, model / "fold_0")

    # the source is gone from here on: --c, --val and inference must not need it
    sources = nnunet_folders / "results" / "sources"
    if base not in RANDOM_START:
        report = read_json(model / "fold_0" / "transfer_report.json")
        assert report["coverage"]["encoder"] == pytest.approx(1.0)
        sources.rename(nnunet_folders / "sources_away")
    continued = run(train.format(fold=0) + " --c", nnunet_folders)
    assert "Epoch 0\n" not in continued
    assert "Epoch 11" in continued
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
    workers = int(run is _run)
    predict = (
        f"nnUNetv2_predict -i raw/{dataset}/imagesTr -o {{out}} -d 501 -c {configuration} -f 0 1 -tr {trainer} "
        f"-p {plans} -device cpu -npp {workers} -nps {workers}"
    )
    run(predict.format(out="before"), nnunet_folders)
    run(
        f"nnUNetv2_export_model_to_zip -d 501 -o model.zip -c {configuration} -f 0 1 -tr {trainer} -p {plans}",
        nnunet_folders,
    )
    (nnunet_folders / "results").rename(nnunet_folders / "results_away")
    (nnunet_folders / "results").mkdir()
    run("nnUNetv2_install_pretrained_model_from_zip model.zip", nnunet_folders)
    run(predict.format(out="after"), nnunet_folders)
    for before in sorted((nnunet_folders / "before").glob("*.nii.gz")):
        after = nib.load(nnunet_folders / "after" / before.name)
        assert np.array_equal(np.asarray(nib.load(before).dataobj), np.asarray(after.dataobj)), before.name
