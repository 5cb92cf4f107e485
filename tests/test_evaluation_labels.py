"""What is scored: labels of a data set, chosen and ignored ones, and lesion protocols from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.evaluation.folders import EvaluateSettings, evaluate_folders
from nnunet_transfer.evaluation.labels import LabelSet, read_label_set
from nnunet_transfer.evaluation.protocols import PRESETS, read_protocols
from nnunet_transfer.evaluation.scores import ScoringSettings
from nnunet_transfer.files import write_json
from tests.mask_files import write_mask, write_two_lesions


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


@pytest.mark.parametrize(
    "labels",
    [{"a": [[1]]}, {"a": 1.7}, {"a": float("inf")}, {"a": -1}, {"a": 10**30}, {"a": True}, {"a": [0, 1]}, {"a": "x"}],
)
def test_labels_of_a_data_set_are_whole_numbers(labels: dict, tmp_path: Path) -> None:
    write_json(tmp_path / "dataset.json", {"labels": {"background": 0, **labels}})
    with pytest.raises(DataError, match="whole numbers from 0 to 65535"):
        read_label_set(tmp_path / "dataset.json")


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
