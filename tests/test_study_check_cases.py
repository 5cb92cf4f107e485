"""What `study check` finds of the folds of data sets, and of trainings on more cases than these have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.files import write_json
from nnunet_transfer.study import read_study, state, study_jobs
from nnunet_transfer.study.own_folds import validation_sizes
from nnunet_transfer.study.training_cases import cases_of_folds, cases_of_synthetic
from nnunet_transfer.synthetic.datasets import DATASETS
from tests.nnunet_data import two_folds, write_blob_dataset
from tests.studies import SUBJECTS, write_atlas_tree
from tests.study_files import Change, set_, write_study
from tests.test_study_check import check


def errors(file: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what `study check` says has to be fixed."""
    _, text = check(file, capsys)
    return [line.partition(": ")[2].partition(": ")[2] for line in text.splitlines() if line.startswith("error")]


def both(*changes: Change) -> Change:
    def change(content: dict[str, Any]) -> None:
        for own in changes:
            own(content)

    return change


def of_synthetic(cases: list[int | str], source: int) -> Change:
    return both(set_("cases", to=cases), set_("sources", "t1_segmentation", "cases", to=source))


def test_synthetic_data_have_as_many_cases_as_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors(write_study(tmp_path, of_synthetic([1, 4, "all"], 24)), capsys) == []
    assert errors(write_study(tmp_path, of_synthetic([1, 5, "all"], 25)), capsys) == [
        "sources.t1_segmentation.cases: fold 0 of t1 has 24 training cases, not 25",
        "cases.1: fold 0 of stroke has 4 training cases, not 5",
        "cases.1: fold 1 of stroke has 4 training cases, not 5",
    ]
    for name, (number, write) in DATASETS.items():
        assert cases_of_folds(write(tmp_path, number, 0), tmp_path / "nowhere") == cases_of_synthetic(name)


@pytest.mark.parametrize(
    ("folds", "most"), [([0, 1], SUBJECTS // 2), ([1], SUBJECTS - 1)], ids=["all folds", "one fold"]
)
def test_a_conversion_cannot_give_a_fold_more_cases_than_it_leaves(
    tmp_path: Path, folds: list[int], most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"id": 711, "converter": "atlas_r2", "path": str(write_atlas_tree(tmp_path)), "options": {"folds": 2}}
    change = both(set_("datasets", "stroke", to=data), set_("targets", "stroke", "folds", to=folds))
    assert errors(write_study(tmp_path, both(change, set_("cases", to=[most]))), capsys) == []
    assert errors(write_study(tmp_path, both(change, set_("cases", to=[1, most + 1]))), capsys) == [
        f"cases.1: stroke has 6 labelled cases, so {most + 1} can't train in each fold; give at most {most}"
    ]


def of_raw(tmp_path: Path, cases: int, *changes: Change) -> tuple[Path, Path]:
    """Return a study of a raw data set, and the folder of the data set."""
    file = write_study(tmp_path, both(set_("datasets", "stroke", to={"id": 711}), *changes))
    raw = read_study(file).folders["nnUNet_raw"]
    return file, raw / write_blob_dataset(raw, 711, cases=cases, shape=(8, 8, 2))


def test_a_raw_data_set_has_the_folds_that_it_brings_or_gets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, raw = of_raw(tmp_path, 11, set_("cases", to=[8, 9]))
    # 11 cases in nnU-Net's five folds: 3 + 2 + 2 + 2 + 2
    assert errors(file, capsys) == ["cases.1: fold 0 of stroke has 8 training cases, not 9"]
    assert validation_sizes([path.name[:6] for path in (raw / "labelsTr").iterdir()], raw) == [3, 2, 2, 2, 2]
    rows = [f"case{i:02d},{'A' if i < 6 else f'S{i}'}" for i in range(11)]
    (raw / "conversion_manifest.csv").write_text("\n".join(["case,subject", *rows]) + "\n")
    assert "cases.0: fold 0 of stroke has 5 training cases, not 8" in errors(file, capsys)
    kept = read_study(file).folders["nnUNet_preprocessed"] / raw.name / "splits_final.json"
    write_json(kept, two_folds(11))
    _, text = check(file, capsys)
    assert "error: " not in text
    assert "in no fold" not in text
    # one case came after the first run
    write_json(kept, two_folds(10))
    _, text = check(file, capsys)
    assert "error: " not in text
    assert f"stroke: case10 is in no fold of {kept}, which an earlier run made" in text
    write_json(raw / "splits_final.json", [{"train": ["case00"], "val": [f"case{i:02d}" for i in range(1, 11)]}])
    assert errors(file, capsys) == [
        "targets.stroke.folds: stroke has the folds 0 to 0, not 1",
        "cases.0: fold 0 of stroke has 1 training case, not 8",
        "cases.1: fold 0 of stroke has 1 training case, not 9",
    ]


def test_a_raw_data_set_with_too_few_cases_for_folds_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, raw = of_raw(tmp_path, 4)
    (found,) = errors(file, capsys)
    assert "Dataset711_Blobs has no splits_final.json, and too few cases (4) for nnU-Net's 5 folds" in found
    write_json(raw / "splits_final.json", two_folds(4))
    assert errors(file, capsys) == []
    (raw / "splits_final.json").write_text("{}")
    (found,) = errors(file, capsys)
    assert "is not a list of folds" in found


@pytest.mark.parametrize(
    ("fold", "said", "kept_too"),
    [
        ({"train": ["case00", "case01"], "val": ["case01"]}, "case01 is in train and in val of fold 0", True),
        ({"train": ["case00", "sub-9"], "val": ["case01"]}, "fold 0 has sub-9, which isn't a training case", True),
        ({"train": ["case00"], "val": []}, "fold 0 lacks case01 (1 such case)", False),
    ],
)
def test_folds_that_a_later_step_would_refuse_are_named(
    tmp_path: Path, fold: dict[str, list[str]], said: str, kept_too: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file, raw = of_raw(tmp_path, 2, set_("targets", "stroke", "folds", to=[0]))
    kept = read_study(file).folders["nnUNet_preprocessed"] / raw.name / "splits_final.json"
    write_json(raw / "splits_final.json", [fold])
    (found,) = errors(file, capsys)
    assert said in found
    write_json(kept, [fold])
    (raw / "splits_final.json").unlink()
    assert [said in found for found in errors(file, capsys)] == [True] * kept_too


def test_of_a_preprocessed_data_set_only_the_installed_folds_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, raw = of_raw(tmp_path, 6, set_("cases", to=[6]))
    study = read_study(file)
    write_json(study.folders["nnUNet_preprocessed"] / raw.name / "splits_final.json", two_folds(6))
    write_json(raw / "splits_final.json", [{"train": [], "val": []}])
    assert any("fold 0 lacks case00 (6 such cases)" in found for found in errors(file, capsys))
    with state.at_work(study.folder, study_jobs(study)["preprocess-stroke"]):
        pass
    assert errors(file, capsys) == [f"cases.0: fold {fold} of stroke has 5 training cases, not 6" for fold in (0, 1)]
