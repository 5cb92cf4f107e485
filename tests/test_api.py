"""The public functions: what importing costs, and that every example in their docstrings runs."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnunet_transfer as nt
from nnunet_transfer import api, registration
from nnunet_transfer import study as nt_study
from nnunet_transfer._nnunet import extract_fingerprint_in_process
from nnunet_transfer.checkpoints.formats import FORMATS
from nnunet_transfer.conversion.catalogue import ADDED
from nnunet_transfer.evaluation.protocols import PRESETS
from nnunet_transfer.files import read_json, write_json, write_text
from nnunet_transfer.naming import ARMS
from nnunet_transfer.recipes import RECIPES
from nnunet_transfer.sources import save_source
from tests.checkpoint_files import build, plans_architecture
from tests.comparison_data import DATASET, QUALITY, SHAPE, save_mask, write_results
from tests.conversion_trees import box, image, write_tree
from tests.nnunet_data import write_blob_dataset
from tests.study_files import write_study

FUNCTIONS = [name for name in api.__all__ if name not in api.CLASSES]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROOT = Path(__file__).resolve().parents[1]
#: modules below the public functions that have examples, too
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "nnunet_transfer").rglob("*.py")
    if path.parent.name != "api" and ">>> " in path.read_text(encoding="utf-8")
)


@pytest.fixture
def lab_tree(nnunet_folders: Path) -> Path:
    files = {f"P{i}/t1.nii.gz": image(i) for i in range(1, 6)} | {f"P{i}/lesions.nii.gz": box(1) for i in range(1, 6)}
    write_tree(files, nnunet_folders / "lab")
    return nnunet_folders / "lab"


@pytest.fixture
def timm_resnet18d(nnunet_folders: Path) -> Path:
    import timm
    import torch

    path = nnunet_folders / "resnet18d.pth"
    torch.save(timm.create_model("resnet18d").state_dict(), path)
    return path


@pytest.fixture
def unet(nnunet_folders: Path) -> Any:
    return build(plans_architecture(), labels=5)


@pytest.fixture
def registered_source(nnunet_folders: Path) -> str:
    architecture = plans_architecture()
    card = nt.SourceCard(
        name="t1_segmentation",
        task="segmentation",
        domain="t1",
        architecture={
            "network_class_name": architecture["network_class_name"],
            "arch_kwargs": architecture["arch_kwargs"],
            "arch_kwargs_req_import": architecture["_kw_requires_import"],
        },
        input_channels=1,
        channel_names=("T1",),
    )
    save_source(card, build(architecture).state_dict())
    return card.name


@pytest.fixture
def fingerprinted(nnunet_folders: Path) -> int:
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints
        extract_fingerprint_in_process(write_blob_dataset(nnunet_folders / "raw", 9, cases=2))
    return 9


@pytest.fixture
def mask_folders(tmp_path: Path) -> tuple[Path, Path]:
    for case in "abc":
        mask = np.zeros(SHAPE, bool)
        mask[2:10, 2:10, 1:5] = True
        save_mask(mask, tmp_path / "references" / f"{case}.nii.gz")
        mask[:, :, 4] = False
        save_mask(mask, tmp_path / "predictions" / f"{case}.nii.gz")
    return tmp_path / "references", tmp_path / "predictions"


@pytest.fixture
def trained_arms(nnunet_folders: Path) -> tuple[str, Path]:
    write_results(nnunet_folders, QUALITY)
    return DATASET, nnunet_folders / "comparison"


@pytest.fixture
def preprocessed(nnunet_folders: Path) -> str:
    name = write_blob_dataset(nnunet_folders / "raw", 9, cases=2)
    cases = [
        path.name.removesuffix(".nii.gz") for path in sorted((nnunet_folders / "raw" / name / "labelsTr").iterdir())
    ]
    write_json(nnunet_folders / "raw" / name / "splits_final.json", [{"train": cases[:1], "val": cases[1:]}])
    for case in cases:
        path = nnunet_folders / "preprocessed" / name / "gt_segmentations" / f"{case}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return name


@pytest.fixture
def two_sets(nnunet_folders: Path) -> list[str]:
    return [write_blob_dataset(nnunet_folders / "raw", i, cases=5, shape=(8, 8, 6)) for i in (11, 12)]


@pytest.fixture
def trained_model(fingerprinted: int, nnunet_folders: Path) -> tuple[Path, Path]:
    import torch

    settings = nt.PlanSettings(configurations=("2d",), patch_size=(32, 32), batch_size=2)
    plans = read_json(nt.plan(fingerprinted, profile="demo", settings=settings))
    model = nnunet_folders / "results" / plans["dataset_name"] / "nnUNetTrainerTransfer__nnUNetPlans_demo__2d"
    content = {
        "network_weights": build(plans["configurations"]["2d"]["architecture"]).state_dict(),
        "trainer_name": "nnUNetTrainerTransfer",
        "init_args": {"plans": plans, "configuration": "2d"},
    }
    for fold in (0, 1):
        (model / f"fold_{fold}").mkdir(parents=True)
        torch.save(content, model / f"fold_{fold}" / "checkpoint_final.pth")
    write_json(model / "plans.json", plans)
    write_json(model / "dataset.json", read_json(nnunet_folders / "raw" / plans["dataset_name"] / "dataset.json"))
    return model, nnunet_folders


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    return write_study(tmp_path)


@pytest.fixture
def finished_study(study_file: Path) -> Path:
    study = nt_study.read_study(study_file)
    for job in nt_study.study_jobs(study).values():
        with nt_study.state.at_work(study.folder, job):
            pass
    write_text(study.folder / "report" / "report.html", "")
    return study_file


@pytest.mark.parametrize("name", [*FUNCTIONS, "Registry", "did_you_mean"])
def test_the_examples_run(name: str, request: pytest.FixtureRequest) -> None:
    owner = api if name in FUNCTIONS else registration
    before = [(table, set(table)) for table in (ARMS, RECIPES, PRESETS, ADDED, FORMATS)]
    finder = doctest.DocTestFinder(recurse=False)
    (test,) = finder.find(getattr(owner, name), name, globs={**vars(owner), "getfixture": request.getfixturevalue})
    # the example of `plan_conversion` ends with the other
    assert test.examples or name == "convert_planned"
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    try:
        runner.run(test)
    finally:
        for table, names in before:
            for added in set(table) - names:
                table.unregister(added)
    assert runner.failures == 0


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_modules_run(module: str) -> None:
    tests = doctest.DocTestFinder().find(importlib.import_module(module))
    assert any(test.examples for test in tests)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    assert [test.name for test in tests if runner.run(test).failed] == []


def test_every_public_name_is_there_documented_and_listed() -> None:
    for name in api.__all__:
        assert getattr(nt, name).__doc__, name
        assert name in dir(nt)
    assert sorted(api.__all__) == api.__all__
    with pytest.raises(AttributeError, match="no attribute nothing"):
        nt.nothing  # noqa: B018 # the look-up is what is tested


def test_the_import_is_light() -> None:
    code = (
        "import sys, time; start = time.process_time(); import nnunet_transfer as nt; taken = time.process_time() - start; "
        "dir(nt); nt.convert; nt.DatasetDescription; "
        "print(taken < 0.1, *(m for m in ('torch', 'nnunetv2', 'pandas', 'snakemake') if m in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True"]


def test_the_repository_is_not_part_of_the_package() -> None:
    assert len(nt.__path__) == 1
    with pytest.raises(ImportError):
        __import__("nnunet_transfer.setup")
