"""Pooling data sets with different labels, through the command."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nnunet_transfer.cli import main
from nnunet_transfer.conversion import pool as pool_module
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.work import id_held
from tests.nnunet_data import edit_json, two_folds, write_blob_dataset

COMMAND = ["pool", "-d", "11", "12", "--id", "20", "--name", "Pooled"]


@pytest.fixture
def raw(nnunet_folders: Path) -> Path:
    """Two raw data sets with two and one labels and four and three cases."""
    folder = nnunet_folders / "raw"
    write_blob_dataset(folder, 11, name="Hammers", cases=4, shape=(8, 8, 6), labels=2)
    write_blob_dataset(folder, 12, name="Lobes", cases=3, shape=(8, 8, 6), seed=1)
    for dataset, folds in (("Dataset011_Hammers", two_folds(4)), ("Dataset012_Lobes", two_folds(3))):
        write_json(folder / dataset / "splits_final.json", folds)
    return folder


def _voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_pooled_sets_keep_images_labels_folds_and_terms(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_json(raw / "Dataset011_Hammers/dataset.json", licence="CC BY", reference="Hammers 2003")
    assert main(COMMAND) == 0
    folder = raw / "Dataset020_Pooled"
    assert capsys.readouterr().out.splitlines() == [
        "Hammers: 4 cases, 2 labels, from Dataset011_Hammers",
        "Lobes: 3 cases, 1 label, from Dataset012_Lobes",
        str(folder),
    ]
    content = read_json(folder / "dataset.json")
    assert content["labels"] == {"background": 0, "Hammers_class1": 1, "Hammers_class2": 2, "Lobes_class1": 3}
    assert content["label_sets"] == {"Hammers": {"class1": 1, "class2": 2}, "Lobes": {"class1": 3}}
    assert content["pooled_from"] == {"Hammers": "Dataset011_Hammers", "Lobes": "Dataset012_Lobes"}
    assert content["numTraining"] == 7
    assert (content["licence"], content["reference"]) == ("Hammers: CC BY", "Hammers: Hammers 2003")
    for dataset, name, shift in (("Dataset011_Hammers", "Hammers", 0), ("Dataset012_Lobes", "Lobes", 2)):
        for path in (raw / dataset / "labelsTr").iterdir():
            before, after = nib.load(path), nib.load(folder / "labelsTr" / f"{name}_{path.name}")
            old, new = np.asarray(before.dataobj), np.asarray(after.dataobj)
            assert np.array_equal(np.where(old > 0, old + shift, 0), new)
            assert np.allclose(before.affine, after.affine)
        for path in (raw / dataset / "imagesTr").iterdir():
            assert (folder / "imagesTr" / f"{name}_{path.name}").read_bytes() == path.read_bytes()
    assert read_json(folder / "splits_final.json")[1] == {
        "train": [f"Hammers_case{i:02d}" for i in (0, 2, 3)] + [f"Lobes_case{i:02d}" for i in (0, 2)],
        "val": ["Hammers_case01", "Lobes_case01"],
    }
    assert {row["case"]: row["set"] for row in _rows(folder / "label_sets.csv")} == {
        **{f"Hammers_case{i:02d}": "Hammers" for i in range(4)},
        **{f"Lobes_case{i:02d}": "Lobes" for i in range(3)},
    }
    assert not list(raw.glob(".*"))


def test_subjects_of_different_sets_are_different_and_keep_their_cases(raw: Path) -> None:
    manifest = "case,subject,site\n" + "".join(f"case{i:02d},sub-{i // 2},A\n" for i in range(4))
    (raw / "Dataset011_Hammers/conversion_manifest.csv").write_text(manifest, encoding="utf-8")
    assert main(COMMAND) == 0
    rows = {row["case"]: row for row in _rows(raw / "Dataset020_Pooled/conversion_manifest.csv")}
    assert [rows[f"Hammers_case{i:02d}"]["subject"] for i in range(4)] == [f"Hammers_sub-{i // 2}" for i in range(4)]
    assert rows["Lobes_case00"]["subject"] == "Lobes_case00"
    assert rows["Hammers_case00"]["site"] == "A"


def test_a_set_without_folds_is_dealt_into_as_many_with_subjects_together(raw: Path) -> None:
    (raw / "Dataset011_Hammers/splits_final.json").unlink()
    manifest = "case,subject\n" + "".join(f"case{i:02d},sub-{i // 2}\n" for i in range(4))
    (raw / "Dataset011_Hammers/conversion_manifest.csv").write_text(manifest, encoding="utf-8")
    assert main(COMMAND) == 0
    folds = read_json(raw / "Dataset020_Pooled/splits_final.json")
    own = [{c for c in fold["val"] if c.startswith("Hammers")} for fold in folds]
    pairs = [{"Hammers_case00", "Hammers_case01"}, {"Hammers_case02", "Hammers_case03"}]
    assert own in (pairs, pairs[::-1])


def _manifests(raw: Path) -> None:
    """Say that case i is of subject i, in both sets."""
    for dataset, cases in (("Dataset011_Hammers", 4), ("Dataset012_Lobes", 3)):
        rows = "".join(f"case{i:02d},sub-{i}\n" for i in range(cases))
        (raw / dataset / "conversion_manifest.csv").write_text(f"case,subject\n{rows}", encoding="utf-8")


def test_subjects_that_sets_share_stay_on_one_side_of_each_fold(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    _manifests(raw)
    write_json(raw / "Dataset012_Lobes/splits_final.json", two_folds(3)[::-1])
    assert main([*COMMAND, "--same-subjects"]) == 0
    assert "made again" in caplog.text
    folder = raw / "Dataset020_Pooled"
    subject = {row["case"]: row["subject"] for row in _rows(folder / "conversion_manifest.csv")}
    assert subject["Hammers_case01"] == subject["Lobes_case01"] == "sub-1"
    folds = read_json(folder / "splits_final.json")
    assert len(folds) == 2
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(subject)
    for fold in folds:
        assert not {subject[case] for case in fold["train"]} & {subject[case] for case in fold["val"]}
        assert {case.split("_")[0] for case in fold["train"]} == {"Hammers", "Lobes"}


def test_folds_that_agree_on_the_shared_subjects_are_kept(raw: Path) -> None:
    _manifests(raw)
    assert main([*COMMAND, "--same-subjects"]) == 0
    assert read_json(raw / "Dataset020_Pooled/splits_final.json")[1]["val"] == ["Hammers_case01", "Lobes_case01"]


def test_namesakes_are_taken_for_different_subjects_and_the_user_is_told(
    raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _manifests(raw)
    write_json(raw / "Dataset012_Lobes/splits_final.json", two_folds(3)[::-1])
    assert main(COMMAND) == 0
    assert "several sets have a subject sub-0, treated as different people" in caplog.text
    assert read_json(raw / "Dataset020_Pooled/splits_final.json")[0]["val"] == ["Hammers_case00", "Lobes_case01"]


def test_folds_that_nnunet_trains_on_go_before_those_of_the_conversion(raw: Path) -> None:
    preprocessed = raw.parent / "preprocessed/Dataset012_Lobes"
    preprocessed.mkdir()
    write_json(preprocessed / "splits_final.json", two_folds(3)[::-1])
    assert main(COMMAND) == 0
    assert read_json(raw / "Dataset020_Pooled/splits_final.json")[0]["val"] == ["Hammers_case00", "Lobes_case01"]


def test_voxels_to_ignore_get_one_value_above_all_labels(raw: Path) -> None:
    labels = {"background": 0, "class1": 1, "ignore": 2}
    edit_json(raw / "Dataset012_Lobes/dataset.json", labels=labels)
    path = raw / "Dataset012_Lobes/labelsTr/case00.nii.gz"
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0] = 2
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    assert main(COMMAND) == 0
    folder = raw / "Dataset020_Pooled"
    assert read_json(folder / "dataset.json")["labels"]["ignore"] == 4
    assert read_json(folder / "dataset.json")["label_sets"]["Lobes"] == {"class1": 3}
    pooled = _voxels(folder / "labelsTr/Lobes_case00.nii.gz")
    assert (pooled[0] == 4).all()
    assert set(np.unique(pooled)) == {0, 3, 4}


def test_images_can_be_linked(raw: Path) -> None:
    assert main([*COMMAND, "--link"]) == 0
    link = raw / "Dataset020_Pooled/imagesTr/Lobes_case00_0000.nii.gz"
    assert link.is_symlink()
    assert link.resolve() == (raw / "Dataset012_Lobes/imagesTr/case00_0000.nii.gz").resolve()


def test_cases_that_dataset_json_lists_are_found_where_they_lie(raw: Path) -> None:
    dataset, elsewhere = raw / "Dataset012_Lobes", raw.parent / "elsewhere"
    (dataset / "imagesTr").rename(elsewhere)
    listed = {
        f"case{i:02d}": {
            "images": [str(elsewhere / f"case{i:02d}_0000.nii.gz")],
            "label": f"labelsTr/case{i:02d}.nii.gz",
        }
        for i in range(2)
    }
    edit_json(dataset / "dataset.json", dataset=listed)
    write_json(dataset / "splits_final.json", two_folds(2))
    assert main(COMMAND) == 0
    pooled = sorted(path.name for path in (raw / "Dataset020_Pooled/imagesTr").glob("Lobes*"))
    assert pooled == ["Lobes_case00_0000.nii.gz", "Lobes_case01_0000.nii.gz"]


def test_folds_of_cases_with_dots_in_their_names_are_installed(raw: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        for path in (raw / "Dataset011_Hammers" / folder).iterdir():
            path.rename(path.with_name(path.name.replace("case", "case.v1.")))
    (raw / "Dataset011_Hammers/splits_final.json").unlink()
    assert main(COMMAND) == 0
    preprocessed = raw.parent / "preprocessed/Dataset020_Pooled"
    shutil.copytree(raw / "Dataset020_Pooled/labelsTr", preprocessed / "gt_segmentations")
    assert main(["install-splits", "-d", "20"]) == 0
    assert "Hammers_case.v1.00" in (preprocessed / "splits_final.json").read_text()


def test_sets_of_the_same_name_are_told_apart_by_their_ids(raw: Path) -> None:
    write_blob_dataset(raw, 13, name="Lobes", cases=3, shape=(8, 8, 6))
    write_json(raw / "Dataset013_Lobes/splits_final.json", two_folds(3))
    assert main(["pool", "-d", "12", "13", "--id", "20", "--name", "Pooled"]) == 0
    assert list(read_json(raw / "Dataset020_Pooled/dataset.json")["label_sets"]) == [
        "Dataset012_Lobes",
        "Dataset013_Lobes",
    ]


@pytest.mark.parametrize(("end", "status"), [(KeyboardInterrupt(), 130), (DataError("a label can't be read"), 2)])
def test_an_interrupted_pooling_leaves_nothing_that_nnunet_sees_and_goes_on(
    end: BaseException, status: int, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = pool_module.write_label

    def interrupted(source: Path, target: Path, values: dict[int, int]) -> None:
        if len(written) == 3:
            raise end
        written.append(target.name)
        write(source, target, values)

    monkeypatch.setattr(pool_module, "write_label", interrupted)
    assert main(COMMAND) == status
    assert not (raw / "Dataset020_Pooled").exists()
    first = list(written)
    written.clear()
    monkeypatch.setattr(pool_module, "write_label", lambda s, t, v: (written.append(t.name), write(s, t, v)))
    assert main(COMMAND) == 0
    assert len(written) == 4
    assert not set(first) & set(written)
    assert len(list((raw / "Dataset020_Pooled/labelsTr").iterdir())) == 7


def test_what_was_interrupted_with_other_labels_is_not_taken_up(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(pool_module, "_write_tables", interrupt)
        assert main(COMMAND) == 130
    assert main(["pool", "-d", "12", "11", "--id", "20", "--name", "Pooled"]) == 0
    assert set(np.unique(_voxels(raw / "Dataset020_Pooled/labelsTr/Lobes_case00.nii.gz"))) == {0, 1}


@pytest.mark.parametrize("link", [[], ["--link"]])
def test_what_changed_since_an_interrupt_is_not_kept(
    raw: Path, link: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(pool_module, "_write_tables", interrupt)
        assert main([*COMMAND, *link]) == 130
    gone = raw / "Dataset011_Hammers"
    for part, name in (("imagesTr", "case03_0000"), ("labelsTr", "case03")):
        (gone / part / f"{name}.nii.gz").unlink()
    write_json(gone / "splits_final.json", two_folds(3))
    # corrected before the interrupted run, and copied here with its time
    corrected = gone / "labelsTr/case00.nii.gz"
    image = nib.load(corrected)
    voxels = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.where(voxels == 1, 2, voxels).astype(np.uint8), image.affine), corrected)
    os.utime(corrected, (1_000_000_000, 1_000_000_000))
    assert main([*COMMAND, *link]) == 0
    folder = raw / "Dataset020_Pooled"
    assert 1 not in _voxels(folder / "labelsTr/Hammers_case00.nii.gz")
    cases = {row["case"] for row in _rows(folder / "conversion_manifest.csv")}
    assert {path.name.removesuffix("_0000.nii.gz") for path in (folder / "imagesTr").iterdir()} == cases
    assert {path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir()} == cases
    assert len(cases) == 6


def test_of_two_poolings_into_one_id_one_wins(raw: Path) -> None:
    first, second = (pool_module.plan_pool(["11", "12"], 20, name) for name in ("A", "B"))
    with id_held(first.folder), pytest.raises(DataError, match="another process is making Dataset020"):
        pool_module.pool(second)
    assert pool_module.pool(first).is_dir()
    with pytest.raises(DataError, match=r"id 20 is used by .*Dataset020_A"):
        pool_module.pool(second)
    assert [path.name for path in raw.glob("*020*")] == ["Dataset020_A"]


LISTED = {"images": ["imagesTr/case00_0000.nii.gz"], "label": "labelsTr/case00.nii.gz"}
ANY = st.sampled_from([None, True, -1, 1 << 80, 1.5, "", "x", "../x", "\0", [], ["x"], [1], {}, {"a": 1}, [[1]]])


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["labels", "file_ending", "dataset", "made_from", "channel_names"]), value=ANY, deep=ANY)
@example(key="", value=[{"train": 1, "val": [[]]}], deep=None)
@example(key="labels", value=None, deep={"background": 0, "x": 1, "ignore": "x"})
@example(key="labels", value=None, deep={"background": 0, "x": 1, "ignore": 1 << 80})
@example(key="dataset", value=None, deep={"../x": LISTED})
@example(key="dataset", value=None, deep={"x": {**LISTED, "label": 3}})
def test_files_of_any_content_are_pooled_or_refused_in_one_line(
    raw: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any, deep: Any
) -> None:
    dataset = raw / "Dataset012_Lobes"
    content = read_json(raw / "Dataset011_Hammers" / "dataset.json")
    write_json(dataset / "dataset.json", {**content, key: deep if value is None else value} if key else value)
    write_json(dataset / "splits_final.json", two_folds(3) if key else value)
    capsys.readouterr()
    if status := main(COMMAND):
        assert status == 2
        assert capsys.readouterr().err.count("nnunet_transfer pool: ") == 1
    shutil.rmtree(raw / "Dataset020_Pooled", ignore_errors=True)


@pytest.mark.parametrize("table", [b"\xff", b"case,subject\n" + b"a" * 200_000])
def test_a_manifest_that_is_no_table_is_one_line(raw: Path, table: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "Dataset012_Lobes" / "conversion_manifest.csv").write_bytes(table)
    assert main(COMMAND) == 2
    assert "is not a table with the columns case and subject" in capsys.readouterr().err


def _other_channels(raw: Path) -> None:
    edit_json(raw / "Dataset012_Lobes/dataset.json", channel_names={"0": "FLAIR"})


def _regions(raw: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    edit_json(raw / "Dataset012_Lobes/dataset.json", labels=labels, regions_class_order=[1, 2])


def _gap(raw: Path) -> None:
    edit_json(raw / "Dataset012_Lobes/dataset.json", labels={"background": 0, "class1": 3})


def _unnamed_value(raw: Path) -> None:
    path = raw / "Dataset012_Lobes/labelsTr/case02.nii.gz"
    nib.save(nib.Nifti1Image(_voxels(path) * 7, np.eye(4)), path)


def _damaged_label(raw: Path) -> None:
    (raw / "Dataset012_Lobes/labelsTr/case02.nii.gz").write_bytes(b"no image")


def _missing_label(raw: Path) -> None:
    (raw / "Dataset012_Lobes/labelsTr/case02.nii.gz").unlink()


def _other_folds(raw: Path) -> None:
    write_json(raw / "Dataset012_Lobes/splits_final.json", two_folds(3)[:1])


def _strange_folds(raw: Path) -> None:
    write_json(raw / "Dataset012_Lobes/splits_final.json", two_folds(5))


def _same_label(raw: Path) -> None:
    (raw / "Dataset012_Lobes").rename(raw / "Dataset012_Hammers_L")
    edit_json(raw / "Dataset011_Hammers/dataset.json", labels={"background": 0, "L_x": 1, "y": 2})
    edit_json(raw / "Dataset012_Hammers_L/dataset.json", labels={"background": 0, "x": 1})


def _used_id(raw: Path) -> None:
    (raw.parent / "results/Dataset020_Other").mkdir()


def _other_ending(raw: Path) -> None:
    edit_json(raw / "Dataset012_Lobes/dataset.json", file_ending=".nrrd")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_other_channels, "Dataset012_Lobes has the channels flair, Dataset011_Hammers has t1"),
        (_other_ending, "has the file ending .nrrd"),
        (_regions, "has regions for labels"),
        (_gap, "without gaps"),
        (_unnamed_value, "aren't in the data set's table: 7"),
        (_damaged_label, "can't be read as an image"),
        (_missing_label, "case02.nii.gz does not exist"),
        (_other_folds, "different numbers of folds (Dataset011_Hammers 2, Dataset012_Lobes 1)"),
        (_strange_folds, "names the case case03"),
        (_same_label, "both give a label Hammers_L_x; rename one of the data sets"),
        (_used_id, "Dataset020_Other; choose another for Dataset020_Pooled"),
    ],
)
def test_sets_that_do_not_go_together_are_refused_in_one_line(
    fault: Any, message: str, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault(raw)
    assert main(COMMAND) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (raw / "Dataset020_Pooled").exists()


@pytest.mark.parametrize(
    ("datasets", "message"),
    [(["11"], "two or more"), (["11", "Dataset011_Hammers"], "given twice"), (["11", "77"], "no data set 77")],
)
def test_wrong_choices_are_refused(
    datasets: list[str], message: str, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pool", "-d", *datasets, "--id", "20", "--name", "Pooled"]) == 2
    assert message in capsys.readouterr().err
