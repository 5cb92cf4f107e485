"""Scoring folders of masks: files of every format, hostile files, label sets and protocols from files."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_transfer.cli import main
from nnunet_transfer.errors import ComparisonError, DataError, SettingsError
from nnunet_transfer.evaluation.folders import CASES_PER_PROCESS, EvaluateSettings, Task, evaluate_folders, run_tasks
from nnunet_transfer.evaluation.labels import LabelSet, read_label_set
from nnunet_transfer.evaluation.masks import Volume, geometry_problem, read_mask
from nnunet_transfer.evaluation.protocols import PRESETS, read_protocols
from nnunet_transfer.evaluation.scores import ScoringSettings
from nnunet_transfer.files import write_json
from tests.recorded.random_masks import random_pair


def write_mask(array: np.ndarray, path: Path, spacing: tuple[float, ...] = (0.8, 0.9, 3.0)) -> Path:
    """Write a mask, axes (z, y, x) or (y, x), in the format of the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array.astype(np.uint8)).save(path)
        return path
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.SetSpacing(spacing[: array.ndim])
    image.SetOrigin((10.0, -20.0, 5.0)[: array.ndim])
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_formats_give_the_same_array_and_geometry(ending: str, tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    reference = read_mask(write_mask(array, tmp_path / "a.nii.gz"))
    volume = read_mask(write_mask(array, tmp_path / f"b{ending}"))
    assert np.array_equal(volume.array, array)
    assert volume.spacing == pytest.approx((3.0, 0.9, 0.8))
    assert volume.affine == pytest.approx(reference.affine, abs=1e-5)
    assert geometry_problem(reference, volume) is None


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".png"])
def test_two_dimensional_folders(ending: str, tmp_path: Path) -> None:
    reference, prediction = np.zeros((2, 20, 30), np.uint8)
    reference[2:8, 3:9] = 1
    prediction[2:8, 3:6] = 1
    write_mask(reference, tmp_path / f"ref/a{ending}")
    write_mask(prediction, tmp_path / f"pred/a{ending}")
    settings = EvaluateSettings(ScoringSettings((PRESETS["atlas_r2"],)))
    row = evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=settings).cases.iloc[0]
    assert row["dice"] == pytest.approx(2 * 18 / 54)
    assert row["atlas_r2_f1"] == 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((3, 3, 3), 0.5, np.float32), "fractions"),
        (np.full((3, 3, 3), np.nan, np.float32), "NaN"),
        (np.full((3, 3, 3), -1, np.int16), "labels from -1"),
        (np.zeros((3, 3, 3, 2), np.uint8), "shape"),
    ],
)
def test_what_is_no_mask_is_refused(array: np.ndarray, message: str, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match=message):
        read_mask(tmp_path / "a.nii.gz")


def test_whole_numbers_stored_as_floats_are_labels(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((3, 3, 3), 2, np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    assert read_mask(tmp_path / "a.nii.gz").array.max() == 2


def test_a_flipped_direction_is_noticed_though_the_shape_agrees() -> None:
    a = Volume(np.zeros((4, 4, 4)), (1, 1, 1), np.eye(4))
    b = Volume(np.zeros((4, 4, 4)), (1, 1, 1), np.diag([-1.0, 1, 1, 1]))
    rounded = Volume(np.zeros((4, 4, 4)), (1, 1, 1), np.eye(4) + 1e-6)
    assert "direction" in (geometry_problem(a, b) or "")
    assert geometry_problem(a, rounded) is None


def test_missing_and_corrupt_cases_are_named_and_left_out_on_request(tmp_path: Path, capsys) -> None:
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1, 1, 1] = 1
    for case in ("good", "lonely", "corrupt"):
        write_mask(mask, tmp_path / f"ref/{case}.nii.gz")
    write_mask(mask, tmp_path / "pred/good.nii.gz")
    write_mask(mask, tmp_path / "pred/extra.nii.gz")
    (tmp_path / "pred/corrupt.nii.gz").write_bytes(b"no image")
    command = ["evaluate", str(tmp_path / "ref"), str(tmp_path / "pred"), "-o", str(tmp_path / "cases.csv")]
    command += ["--labels", "1", "--processes", "1"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "lonely" in error
    assert "extra" in error
    assert "; give every case a mask in " in error
    assert not (tmp_path / "cases.csv").exists()
    assert main([*command, "--allow-missing"]) == 0
    begun = {line.split(":")[0] for line in capsys.readouterr().out.splitlines()}
    assert {"left out corrupt", "left out lonely", "left out extra", "mean over cases"} <= begun
    assert list(pd.read_csv(tmp_path / "cases.csv")["case"]) == ["good"]


def test_a_reference_that_can_not_be_read_is_left_out_though_its_labels_are_unknown(tmp_path: Path) -> None:
    for case, label in (("a", 1), ("b", 3)):
        write_mask(np.full((3, 3, 3), label), tmp_path / f"ref/{case}.nii.gz")
        write_mask(np.full((3, 3, 3), label), tmp_path / f"pred/{case}.nii.gz")
    for case in ("c", "d"):
        (tmp_path / f"ref/{case}.nii.gz").write_bytes(b"cut off")
        write_mask(np.ones((3, 3, 3)), tmp_path / f"pred/{case}.nii.gz")
    result = evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=EvaluateSettings(allow_missing=True))
    assert set(result.problems) == {"c", "d"}
    assert list(dict.fromkeys(result.cases["label"])) == ["1", "3"]
    # without the option, all of them are named
    with pytest.raises(ComparisonError, match=r"2 cases can't be scored: c: .*d: "):
        evaluate_folders(tmp_path / "ref", tmp_path / "pred")


def test_empty_folders_and_labels_outside_the_data_set_are_refused(tmp_path: Path) -> None:
    write_mask(np.full((3, 3, 3), 5), tmp_path / "ref/a.nii.gz")
    (tmp_path / "none").mkdir()
    with pytest.raises(ComparisonError, match="no masks"):
        evaluate_folders(tmp_path / "ref", tmp_path / "none")
    with pytest.raises(ComparisonError, match=r"a: the reference has label 5"):
        evaluate_folders(tmp_path / "ref", tmp_path / "ref", settings=EvaluateSettings(labels=(1, 2)))


def write_two_lesions(folder: Path) -> None:
    """Write masks of two lesions, the second of another label in the reference alone."""
    reference, prediction = np.zeros((2, 10, 10, 10), np.uint8)
    reference[1:3, 1:3, 1:3] = prediction[1:3, 1:3, 1:3] = 1
    reference[6:8, 6:8, 6:8] = 2
    prediction[6:8, 6:8, 6:8] = 1
    write_mask(reference, folder / "ref/a.nii.gz")
    write_mask(prediction, folder / "pred/a.nii.gz")


def test_the_command_says_where_it_writes_the_lesions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_two_lesions(tmp_path)
    command = ["evaluate", *(str(tmp_path / name) for name in ("ref", "pred")), "-o", str(tmp_path / "o.csv")]
    assert main([*command, "--no-surface"]) == 0
    assert "lesions" not in capsys.readouterr().out
    assert not (tmp_path / "lesions.csv").exists()
    assert main([*command, "--no-surface", "--protocol", "msseg2016"]) == 0
    assert f"reference lesions in {tmp_path / 'lesions.csv'}" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "lesions.csv")
    assert list(table["label"]) == [1, 2]
    assert list(table["detected"]) == [True, False]
    assert list(table["volume_mm3"]) == pytest.approx([8 * 0.8 * 0.9 * 3.0] * 2)


def test_lesions_of_another_run_in_the_folder_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_two_lesions(tmp_path)
    ref, pred = str(tmp_path / "ref"), str(tmp_path / "pred")
    protocol = ["--protocol", "atlas_r2", "--no-surface"]

    def found(prediction: str, output: str, *more: str) -> str:
        assert main(["evaluate", ref, prediction, "-o", str(tmp_path / output), *more]) == 0
        return capsys.readouterr().out

    found(pred, "a.csv", *protocol)
    missed = (tmp_path / "lesions.csv").read_text()
    assert "b_lesions.csv" in found(ref, "b.csv", *protocol)
    assert (tmp_path / "lesions.csv").read_text() == missed
    assert list(pd.read_csv(tmp_path / "b_lesions.csv")["detected"]) == [True, True]
    # a run that is repeated replaces its own
    found(ref, "a.csv", *protocol)
    assert list(pd.read_csv(tmp_path / "lesions.csv")["detected"]) == [True, True]
    assert "b_lesions.csv" in found(pred, "b.csv", *protocol)
    assert (tmp_path / "b_lesions.csv").read_text() == missed
    # and doesn't leave those of an earlier table beside a new one
    assert "removed" in found(pred, "b.csv", "--no-surface")
    assert not (tmp_path / "b_lesions.csv").exists()


def test_chosen_labels_are_scored_beside_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, prediction = np.zeros((6, 6, 6), np.uint8), np.zeros((6, 6, 6), np.uint8)
    reference[:2], reference[2:4], prediction[1:3], prediction[3:5] = 1, 2, 1, 2
    write_mask(reference, tmp_path / "ref/a.nii.gz")
    write_mask(prediction, tmp_path / "pred/a.nii.gz")
    write_json(tmp_path / "dataset.json", {"labels": {"background": 0, "x": 1, "y": 2, "z": 3}})
    command = ["evaluate", str(tmp_path / "ref"), str(tmp_path / "pred"), "-o", str(tmp_path / "cases.csv")]
    assert main([*command, "--labels", "1", "--processes", "1"]) == 0
    rows = pd.read_csv(tmp_path / "cases.csv")
    assert list(rows["label"]) == [1]
    assert list(rows["dice"]) == [0.5]
    assert "Counted as background, because --labels leaves it out: label 2, 3." in capsys.readouterr().out
    # what the data set doesn't name is still an error
    prediction[5] = 7
    write_mask(prediction, tmp_path / "pred/a.nii.gz")
    assert main([*command, "--labels", "1", "--processes", "1"]) == 2
    assert "label 7, which" in capsys.readouterr().err


def test_a_label_that_a_protocol_ignores_is_no_class_unless_it_is_asked_for(tmp_path: Path) -> None:
    write_two_lesions(tmp_path)
    scoring = ScoringSettings((PRESETS["wmh2017"],), surface=False)
    found = evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=EvaluateSettings(scoring))
    assert [(row["label"], row["wmh2017_f1"]) for _, row in found.cases.iterrows()] == [("1", 1.0)]
    asked = evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=EvaluateSettings(scoring, labels=(1, 2)))
    assert [(row["label"], row["wmh2017_f1"]) for _, row in asked.cases.iterrows()] == [("1", 1.0), ("2", 0.0)]


def test_a_label_to_ignore_is_no_class_though_the_data_set_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, prediction = np.zeros((2, 10, 10, 10), np.uint8)
    reference[1:3, 1:3, 1:3] = 1
    reference[6:8, 6:8, 6:8] = 2
    prediction[1:3, 1:3, 1:2] = prediction[6:8, 6:8, 6:8] = 1
    write_mask(reference, tmp_path / "ref/a.nii.gz")
    write_mask(prediction, tmp_path / "pred/a.nii.gz")
    command = ["evaluate", *(str(tmp_path / name) for name in ("ref", "pred")), "-o", str(tmp_path / "o.csv")]
    command += ["--ignore-label", "2", "--no-surface", "--processes", "1"]
    for labels in (None, {"lesion": 1, "other": 2}, {"lesion": 1, "other": 2, "any": [1, 2]}):
        if labels:
            write_json(tmp_path / "ref/dataset.json", {"labels": {"background": 0, **labels}})
        assert main(command) == 0
        table = pd.read_csv(tmp_path / "o.csv")
        assert list(table["label"].astype(str)) == ([name for name in labels if name != "other"] if labels else ["1"])
        assert list(table["dice"]) == pytest.approx([2 * 4 / 12] * len(table))
    # a prediction can't have it: what the data set names isn't called unknown
    write_mask(reference, tmp_path / "pred/a.nii.gz")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "the prediction has label 2, which is ignored where a reference has it" in error
    assert "doesn't name" not in error
    write_json(tmp_path / "ref/dataset.json", {"labels": {"background": 0, "other": 2}})
    assert main(command) == 2
    assert "no label is left to score" in capsys.readouterr().err


def test_labels_that_are_asked_for_leave_those_to_ignore_out(tmp_path: Path) -> None:
    write_two_lesions(tmp_path)
    write_json(tmp_path / "ref/dataset.json", {"labels": {"background": 0, "lesion": 1, "ignore": 2}})
    for protocols in ((), (PRESETS["wmh2017"],)):
        scoring = ScoringSettings(protocols, surface=False)
        for labels in (None, (1,)):
            settings = EvaluateSettings(scoring, labels=labels)
            cases = evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=settings).cases
            assert list(cases["dice"]) == [1.0]
    # by name it is a class
    settings = EvaluateSettings(ScoringSettings(surface=False), labels=(1, 2))
    assert list(evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=settings).cases["dice"]) == [2 / 3, 0.0]


def test_endings_in_capitals_are_masks(tmp_path: Path) -> None:
    mask = np.arange(27).reshape(3, 3, 3) % 2
    for folder in ("ref", "pred"):
        for name in ("a.nii.gz", "b.nii.gz", "c.nrrd", "d.nii"):
            write_mask(mask, tmp_path / folder / name)
        for path in list((tmp_path / folder).glob("[b-d].*")):
            path.rename(path.with_name(path.name.upper()))
    table = evaluate_folders(tmp_path / "ref", tmp_path / "pred").cases
    assert dict(zip(table["case"], table["dice"], strict=True)) == dict.fromkeys(["B", "C", "D", "a"], 1.0)


def test_names_may_be_spelt_as_on_another_system(tmp_path: Path) -> None:
    mask = np.zeros((4, 20, 30), np.uint8)
    mask[1:3, 2:8, 3:9] = 1
    one, two = "M\u00fcller", "Mu\u0308ller"
    write_mask(mask, tmp_path / f"ref/{one}.nii.gz")
    write_mask(mask, tmp_path / f"pred/{two}.nii.gz")
    assert evaluate_folders(tmp_path / "ref", tmp_path / "pred").cases["dice"].tolist() == [1]
    write_mask(mask, tmp_path / f"pred/{one}.nii.gz")
    with pytest.raises(ComparisonError, match="in two spellings"):
        evaluate_folders(tmp_path / "ref", tmp_path / "pred")


def test_pictures_of_several_pages_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (0, 1)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="has 2 pages; convert it"):
        read_mask(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "labels",
    [{"a": [[1]]}, {"a": 1.7}, {"a": float("inf")}, {"a": -1}, {"a": 10**30}, {"a": True}, {"a": [0, 1]}, {"a": "x"}],
)
def test_labels_of_a_data_set_are_whole_numbers(labels: dict, tmp_path: Path) -> None:
    write_json(tmp_path / "dataset.json", {"labels": {"background": 0, **labels}})
    with pytest.raises(DataError, match="whole numbers from 0 to 65535"):
        read_label_set(tmp_path / "dataset.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "0", "1"], "label 0 can't be scored"),
        (["--labels", "1", "65536"], "label 65536 can't be scored"),
        (["--ignore-label", "-1"], "label -1 can't be"),
        (["--ignore-label", "1"], "no label is left to score"),
        (["--protocol", "atlas_r2", "-o", "{}/lesions.csv"], "give -o another name"),
        (["-o", "{}/ref"], "is a folder"),
        (["--protocol", "atlas_r2", "--protocol", "atlas_r2"], "given twice: atlas_r2"),
    ],
)
def test_what_can_not_be_scored_or_written_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("ref", "pred"):
        write_mask(np.arange(27).reshape(3, 3, 3) % 2, tmp_path / folder / "a.nii.gz")
    places = [str(tmp_path / name) for name in ("ref", "pred", "o.csv")]
    command = ["evaluate", *places[:2], "-o", places[2], *(o.format(tmp_path) for o in options)]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.csv"))


def test_processes_give_the_same_table_as_one(tmp_path: Path) -> None:
    for i in range(2 * CASES_PER_PROCESS):
        for folder, mask in zip(("ref", "pred"), random_pair(i), strict=True):
            write_mask(mask, tmp_path / folder / f"c{i:02d}.nii.gz")
    settings = EvaluateSettings(labels=(1,))
    tables = [
        evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=settings, processes=n).cases for n in (1, 2)
    ]
    pd.testing.assert_frame_equal(*tables)


class Deadly:
    """Ends the process that receives it."""

    def __reduce__(self) -> tuple:
        return os._exit, (1,)


def test_a_killed_process_is_one_line() -> None:
    task = Task("a", Deadly(), Path("a.nii.gz"), LabelSet(()), ScoringSettings())  # type: ignore[arg-type]
    with pytest.raises(ComparisonError, match="was killed, perhaps because memory ran out; run again with fewer"):
        list(run_tasks([task] * 2 * CASES_PER_PROCESS, 2))


def test_dice_and_iou_agree_with_nnunet(tmp_path: Path) -> None:
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    labels = {"background": 0, "whole": [1, 2], "core": 2, "edge": 3, "ignore": 4}
    write_json(tmp_path / "ref/dataset.json", {"labels": labels, "file_ending": ".nii.gz"})
    rng = np.random.default_rng(6)
    for i in range(4):
        # label 3 is missing from both masks of one case
        highest = 3 if i == 2 else 4
        reference = rng.integers(0, highest, (6, 8, 10))
        reference[0] = 4
        write_mask(reference, tmp_path / f"ref/c{i}.nii.gz")
        write_mask(rng.integers(0, highest, reference.shape), tmp_path / f"pred/c{i}.nii.gz")
    table = evaluate_folders(tmp_path / "ref", tmp_path / "pred").cases.set_index(["case", "label"])
    regions = {"whole": (1, 2), "core": 2, "edge": 3}
    for i in range(4):
        files = (str(tmp_path / f"{folder}/c{i}.nii.gz") for folder in ("ref", "pred"))
        theirs = compute_metrics(*files, SimpleITKIO(), list(regions.values()), 4)["metrics"]
        for name, key in regions.items():
            if (i, name) == (2, "edge"):
                theirs_of_edge = theirs[key]
                continue
            ours = table.loc[(f"c{i}", name)]
            assert (ours["dice"], ours["iou"]) == pytest.approx((theirs[key]["Dice"], theirs[key]["IoU"]), nan_ok=True)
    # nnU-Net leaves a label that is in neither mask undefined; here it is found right, or left out for every arm alike
    assert np.isnan(theirs_of_edge["Dice"])
    assert table.loc[("c2", "edge"), "dice"] == 1
    left_out = evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=EvaluateSettings(empty="leave-out")).cases
    assert np.isnan(left_out.set_index(["case", "label"]).loc[("c2", "edge"), "dice"])


def test_label_sets_of_nnunet(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    write_json(tmp_path / "dataset.json", {"labels": labels, "file_ending": ".nii.gz"})
    found = read_label_set(tmp_path / "dataset.json")
    assert isinstance(found, LabelSet)
    assert [(label.name, label.values) for label in found.labels] == [("whole", (1, 2)), ("core", (2,))]
    assert found.ignore == {3}
    assert found.allowed == {0, 1, 2, 3}


def test_own_protocols_change_a_preset(tmp_path: Path) -> None:
    write_json(tmp_path / "p.json", [{"base": "atlas_r2", "name": "large", "min_volume_mm3": 10}])
    (protocol,) = read_protocols(tmp_path / "p.json")
    assert (protocol.connectivity, protocol.min_volume_mm3, protocol.name) == (6, 10, "large")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"base": "atlas_r2", "name": "x", "connectivty": 6}, "unknown attribute connectivty"),
        ({"name": "x", "title": "X", "connectivity": 8}, "choose from 6, 18, 26"),
        ({"base": "atlas", "name": "x"}, "did you mean atlas_r2"),
        ({"base": "atlas_r2", "name": "x", "threshold": 2}, "threshold"),
        ({"title": "X"}, "at least name"),
        ({"base": "atlas_r2", "name": 5}, "name is 5; give a text"),
        ({"base": "atlas_r2", "name": "voxels"}, "and not voxels"),
        ({"base": "atlas_r2", "name": "x", "keep_equal": "false"}, "give true or false"),
        ({"base": "atlas_r2", "name": "x", "ignore_label": "2"}, "give a whole number or null"),
        ({"base": "atlas_r2", "name": "x", "threshold": "0.1"}, "threshold is '0.1'; give a number"),
        ({"base": "atlas_r2", "name": "x", "min_volume_mm3": float("inf")}, "give a finite number"),
        ({"base": "atlas_r2", "name": "x", "both_empty": {"f1": "a"}}, "f1 is 'a'; give a number or null"),
        # numbers in per cent, and padding that no memory holds
        ({"base": "atlas_r2", "name": "x", "both_empty": {"f1": 100}}, "empty masks must lie in 0 ... 1"),
        ({"base": "msseg2016", "name": "x", "enough_covered": 65}, "enough_covered must lie in 0 ... 1"),
        ({"base": "brats2023", "name": "x", "merge_dilation": 10**9}, "merge_dilation lie in 0 ... 50"),
        ([], "no lesion protocol"),
    ],
)
def test_wrong_protocols_are_explained(entry: dict, message: str, tmp_path: Path) -> None:
    write_json(tmp_path / "p.json", entry)
    with pytest.raises(SettingsError, match=message):
        read_protocols(tmp_path / "p.json")


def test_units_of_the_header_count_and_voxels_without_size_are_refused(tmp_path: Path) -> None:
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    for unit, size in (("mm", 1.0), ("micron", 1000.0), ("meter", 0.001), ("unknown", 1.0)):
        image = nib.Nifti1Image(mask, np.diag([size, size, size, 1.0]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / f"{unit}.nii.gz")
        volume = read_mask(tmp_path / f"{unit}.nii.gz")
        assert volume.spacing == pytest.approx((1.0, 1.0, 1.0))
        itk = sitk.ReadImage(str(tmp_path / f"{unit}.nii.gz"))
        assert volume.spacing == pytest.approx(itk.GetSpacing())
    image = nib.Nifti1Image(mask, np.eye(4))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "metres.nii.gz")
    with pytest.raises(DataError, match=r"voxels of 1000 x 1000 x 1000 mm in its header"):
        read_mask(tmp_path / "metres.nii.gz")
    header = nib.Nifti1Header()
    header.set_data_shape(mask.shape)
    header["sform_code"] = 1  # a transform of zeros
    nib.save(nib.Nifti1Image(mask, None, header), tmp_path / "flat.nii.gz")
    with pytest.raises(DataError, match=r"voxels of 0 x 0 x 0 mm in its header"):
        read_mask(tmp_path / "flat.nii.gz")
