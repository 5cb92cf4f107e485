"""nnU-Net's own scores in summary.json as a cross-check of a comparison's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.comparison import CompareSettings, compare
from nnunet_transfer.files import write_json
from tests.comparison_data import QUALITY, model_folder, validation_folder, write_results

SCRATCH = "nnUNetTrainerScratch"


@pytest.fixture
def results(nnunet_folders: Path) -> Path:
    """Two arms whose every prediction is its reference, and nnU-Net's summaries of them; returns the folders."""
    write_results(nnunet_folders, {trainer: 1.0 for trainer in list(QUALITY)[:2]})
    for trainer in list(QUALITY)[:2]:
        for fold in (0, 1):
            write_summary(nnunet_folders, trainer, fold, "1")
    return nnunet_folders


def write_summary(folders: Path, trainer: str, fold: int, key: str, **changed: Any) -> None:
    """Write nnU-Net's summary of a fold of perfect predictions; `changed` are the metrics of single cases, None for no entry."""
    folder = validation_folder(folders, trainer, fold)
    perfect = {key: {"Dice": 1.0, "IoU": 1.0}}
    metrics = {path.name: perfect for path in sorted(folder.glob("*.nii.gz"))}
    metrics |= {f"{case.replace('_', '-')}.nii.gz": own for case, own in changed.items()}
    entries = [{"prediction_file": str(folder / name), "metrics": own} for name, own in metrics.items() if own != {}]
    write_json(folder / "summary.json", {"metric_per_case": entries})


def notices(tmp_path: Path) -> list[str]:
    """Compare, and return what the report says about summaries."""
    settings = CompareSettings(draws=100, tables_only=True)
    return [
        n for n in compare([801], out=tmp_path / "out", settings=settings).results[0].notices if "summary.json" in n
    ]


def test_summaries_that_agree_need_no_word(results: Path, tmp_path: Path) -> None:
    assert notices(tmp_path) == []


def test_a_stale_summary_is_reported(results: Path, tmp_path: Path) -> None:
    write_summary(results, SCRATCH, 1, "1", sub_00={"1": {"Dice": 0.123, "IoU": 0.1}})
    (notice,) = notices(tmp_path)
    assert notice.startswith("summary.json disagrees with the masks in 1 prediction and is stale there")
    assert "nnUNetTrainerScratch sub-00" in notice


@pytest.mark.parametrize("content", [None, b"{", json.dumps({"metric_per_case": 3}).encode()])
def test_a_fold_without_a_readable_summary_is_named(content: bytes | None, results: Path, tmp_path: Path) -> None:
    path = validation_folder(results, SCRATCH, 1) / "summary.json"
    path.unlink() if content is None else path.write_bytes(content)
    (notice,) = notices(tmp_path)
    assert notice.startswith(
        "Not all scores were checked against nnU-Net's own, because summary.json is missing, can't be"
    )
    assert notice.endswith("lacks some of them: nnUNetTrainerScratch (fold 1).")


@pytest.mark.parametrize(
    "metrics",
    [{}, None, {"2": {"Dice": 1.0, "IoU": 1.0}}, {"1": {"Dice": None}}],
    ids=["case", "all", "label", "score"],
)
def test_a_fold_whose_summary_lacks_a_score_is_named(metrics: Any, results: Path, tmp_path: Path) -> None:
    write_summary(results, SCRATCH, 1, "1", sub_00=metrics)
    (notice,) = notices(tmp_path)
    assert notice.endswith("lacks some of them: nnUNetTrainerScratch (fold 1).")


def test_scores_of_any_content_are_stale(results: Path, tmp_path: Path) -> None:
    contents = ([1], {"Dice": "0.5"}, {"Dice": 0.5}, {"Dice": float("nan"), "IoU": 1.0})
    odd = {f"sub_0{2 * i}": {"1": content} for i, content in enumerate(contents)}
    write_summary(results, SCRATCH, 1, "1", **odd)
    (notice,) = notices(tmp_path)
    assert "in 4 predictions and is stale there" in notice


def test_a_region_of_one_label_has_the_key_of_a_region(results: Path, tmp_path: Path) -> None:
    labels = {"background": 0, "core": [1]}
    for trainer in list(QUALITY)[:2]:
        write_json(model_folder(results, trainer) / "dataset.json", {"labels": labels, "file_ending": ".nii.gz"})
        for fold in (0, 1):
            write_summary(results, trainer, fold, "(1,)")
    assert notices(tmp_path) == []
    write_summary(results, SCRATCH, 1, "(1,)", sub_00={"(1,)": {"Dice": 0.5, "IoU": 1.0}})
    assert "stale" in notices(tmp_path)[0]
