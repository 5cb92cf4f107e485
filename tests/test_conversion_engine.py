"""A conversion is all or nothing and does nothing twice; its options; the data sets that it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.conversion.catalogue import all_descriptions, get_description
from nnunet_transfer.conversion.engine import convert
from nnunet_transfer.conversion.plan import Options, plan_conversion
from nnunet_transfer.errors import DataError
from tests import conversion_trees as trees
from tests.conversion_runs import CASES, contents, lab, run, snapshot, write_cases
from tests.conversion_trees import box, image, write_tree


@pytest.fixture
def tree(nnunet_folders: Path) -> Path:
    """A tree of `CASES` cases laid out like ATLAS R2.0."""
    return write_cases(nnunet_folders / "source")


def test_a_second_run_does_nothing(tree: Path, nnunet_folders: Path) -> None:
    first = run(tree)
    before = snapshot(nnunet_folders / "raw")
    second = run(tree)
    assert (first.converted, first.unchanged) == (CASES, False)
    assert (second.converted, second.unchanged) == (0, True)
    assert snapshot(nnunet_folders / "raw") == before
    assert second.records == first.records
    assert second.warnings == first.warnings


@pytest.mark.parametrize(
    "change",
    [
        {"folds": 2},
        {"reorient": "RAS"},
        {"limit": 2},
        {"geometry": "copy-from-image"},
        {"link": True},
        {"group_by": "site"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_data_set_that_would_differ_is_not_touched(change: dict[str, Any], tree: Path, nnunet_folders: Path) -> None:
    run(tree)
    before = snapshot(nnunet_folders / "raw")
    with pytest.raises(DataError, match="exists and differs from what this command makes; give --overwrite"):
        run(tree, **change)
    assert snapshot(nnunet_folders / "raw") == before


def test_changed_files_are_noticed_and_converted_when_asked(tree: Path, nnunet_folders: Path) -> None:
    outcome = run(tree)
    path = next(tree.rglob("sub-r001*mask.nii.gz"))
    trees.save(box(1, 5, 3), path)
    with pytest.raises(DataError, match="--overwrite"):
        run(tree)
    assert run(tree, overwrite=True).converted == CASES
    assert [p.name for p in (nnunet_folders / "raw").iterdir()] == [outcome.folder.name]


def test_a_file_that_was_deleted_is_noticed(tree: Path) -> None:
    outcome = run(tree)
    (outcome.folder / "labelsTr/sub-r001_ses-1.nii.gz").unlink()
    with pytest.raises(DataError, match=r"labelsTr/sub-r001_ses-1.nii.gz is missing; give --overwrite"):
        run(tree)


def test_other_terms_are_another_data_set(nnunet_folders: Path) -> None:
    files: trees.Files = {}
    for i in range(2):
        files |= {f"p{i}/t1.nii.gz": image(i), f"p{i}/tissues.nii.gz": trees.stripes(0, 1, 2)}
    root = write_tree(files, nnunet_folders / "source")
    classes = {"grey": 1, "white": 2}
    convert(plan_conversion(lab(classes), root, 4, Options()))
    with pytest.raises(DataError, match="exists and differs"):
        convert(plan_conversion(lab(classes, licence="CC BY"), root, 4, Options()))


def test_processes_make_no_difference(tree: Path, nnunet_folders: Path) -> None:
    alone = contents(run(tree).folder)
    assert contents(run(tree, overwrite=True, processes=2).folder) == alone


@pytest.mark.parametrize("place", ["raw", "preprocessed", "results"])
def test_an_id_in_use_is_refused(
    place: str, tree: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (nnunet_folders / place / "Dataset004_Else").mkdir()
    assert main(["convert", "atlas_r2", str(tree), "-d", "4"]) == 2
    assert f"id 4 is used by {nnunet_folders / place / 'Dataset004_Else'}" in capsys.readouterr().err
    assert not list((nnunet_folders / "raw").glob("*ATLAS*"))


def test_what_was_made_from_a_data_set_does_not_keep_its_id(tree: Path, nnunet_folders: Path) -> None:
    for place in ("preprocessed", "results"):
        (nnunet_folders / place / "Dataset004_ATLASR2").mkdir()
    assert run(tree).folder.name == "Dataset004_ATLASR2"


def test_a_dry_run_writes_nothing(tree: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", "atlas_r2", str(tree), "-d", "4", "--dry-run"]
    assert main(arguments) == 0
    assert f"Dataset004_ATLASR2: {CASES} cases for training, 0 for testing, {CASES} subjects" in capsys.readouterr().out
    next(tree.rglob("sub-r001*T1w.nii.gz")).unlink()
    assert main(arguments) == 1
    assert "left out: sub-r001_ses-1: there is a mask but no image" in capsys.readouterr().out
    assert main([*arguments, "--allow-skips"]) == 0
    for mask in tree.rglob("sub-*mask.nii.gz"):
        mask.unlink()
    assert main([*arguments, "--allow-skips"]) == 1
    assert "no case has a label; is" in capsys.readouterr().out
    assert not list((nnunet_folders / "raw").iterdir())


def test_limit_takes_the_first_cases(tree: Path) -> None:
    assert [record.case for record in run(tree, limit=2).records] == ["sub-r000_ses-1", "sub-r001_ses-1"]


@pytest.mark.parametrize(
    ("limit", "taken"),
    [
        (6, ["a_0", "a_1", "b_0", "b_1", "c_0", "c_1"]),
        # a class of one case can't be learnt
        (5, ["a_0", "a_1", "a_2", "b_0", "b_1"]),
        (10, ["a_0", "a_1", "a_2", "b_0", "b_1", "b_2", "c_0", "c_1", "c_2", "val_0"]),
    ],
)
def test_a_limit_takes_the_classes_in_turn(limit: int, taken: list[str], nnunet_folders: Path) -> None:
    root = nnunet_folders / "pictures"
    for part in ("train/a", "train/b", "train/c", "val"):
        (root / part).mkdir(parents=True)
        for i in range(3):
            (root / part / f"{i}.png").touch()
    plan = plan_conversion(get_description("imagefolder"), root, 4, Options(limit=limit))
    assert [case.name.removeprefix("train_") for case in plan.cases] == taken


def test_the_list_names_every_data_set_with_its_terms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--list"]) == 0
    listed = capsys.readouterr().out
    for description in all_descriptions().values():
        assert f"{description.name}: {description.title}" in listed
        assert all(text in listed for text in (description.licence, description.citation, description.request))
        assert description.licence
        assert description.citation
        assert description.request


TARGETS = (
    "atlas_r1 atlas_r2 atlas_r3 mslesseg msseg2016 isbi2015 ljubljana wmh2017 shifts_ms mrbrains13 mrbrains18 ibsr18 "
    "neurite_oasis mindboggle101 freesurfer hammers miccai2012"
)


def test_no_target_is_missing() -> None:
    assert set(TARGETS.split()) <= set(all_descriptions())


def test_descriptions_are_consistent() -> None:
    for description in all_descriptions().values():
        for rule in description.label_sets.values():
            raw = [v for values in rule.classes.values() for v in ((values,) if isinstance(values, int) else values)]
            assert len(raw) == len(set(raw)), description.name
            assert not set(raw) & {*rule.ignore, *rule.background}
            assert list(rule.names().values()) == list(range(len(rule.names())))
        for layout in description.layouts:
            assert set(layout.labels) <= set(description.label_sets)
            assert set(description.channels) <= set(layout.images)
