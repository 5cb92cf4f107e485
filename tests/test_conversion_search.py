"""Which files a conversion finds: behind links into stores, in layouts that share patterns, under names of any bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnunet_transfer.cli import main
from nnunet_transfer.conversion import workers
from nnunet_transfer.files import parse_json, read_json
from tests import conversion_trees as trees
from tests.conversion_commands import OUT, convert, rows
from tests.conversion_trees import box, image, save

# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [".store", "sourcedata/site1", "raw/.all/sourcedata"])
def test_links_into_a_store_are_followed(store: str, nnunet_folders: Path) -> None:
    root, outside = nnunet_folders / "source", nnunet_folders / "outside"
    save(image(1), root / "sub-01/anat/sub-01_T1w.nii.gz")
    save(image(3), root / store / "sub-03/anat/sub-03_T1w.nii.gz")
    save(image(4), outside / "sub-04/anat/sub-04_T1w.nii.gz")
    save(image(5), root / store / "sub-05/anat/sub-05_T1w.nii.gz")
    (root / store / "sub-04").symlink_to(outside / "sub-04")
    (root / store / "around").symlink_to(root)
    (root / store / "sub-03" / "again").symlink_to(root / store / "sub-03")
    for subject in ("sub-03", "sub-04"):
        (root / subject).symlink_to(Path(store) / subject)
    assert convert(nnunet_folders, "t1_bids", {}) == 0
    # nothing links to the fifth
    assert set(rows(nnunet_folders)) == {"sub-01", "sub-03", "sub-04"}
    listed = (nnunet_folders / f"raw/{OUT}/conversion_left_out.csv").read_text()
    assert f"{store}/sub-03/,folder that is searched as sub-03\n" in listed
    assert f"{store}/sub-04/,link to a folder that is searched as sub-04\n" in listed
    assert f"{store}/sub-05/anat/sub-05_T1w.nii.gz," in listed
    assert f"{store}/around/,link to a folder that is searched as .\n" in listed
    assert "sub-03/again/,link to a folder that is searched as sub-03\n" in listed


def test_nnunets_folders_within_the_root_are_left_out(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(2):
        save(image(i), nnunet_folders / f"scans/sub-{i}.nii.gz")
    command = ["convert", "t1_folder", str(nnunet_folders), "-d", "4", "--name", "Test", "--processes", "1"]
    for more in ([], [], ["--overwrite"]):
        assert main([*command, *more]) == 0
        assert "2 cases found, 2 converted" in capsys.readouterr().out
    listed = (nnunet_folders / f"raw/{OUT}/conversion_left_out.csv").read_text()
    assert "raw/,nnU-Net's folder\n" in listed
    # but whoever asks for data within them gets them
    images = nnunet_folders / f"raw/{OUT}/imagesTr"
    assert main(["convert", "t1_folder", str(images), "-d", "5", "--processes", "1"]) == 0


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
@pytest.mark.parametrize(("dataset", "name"), [("t1_bids", "sub-2_T1w.nii.gz"), ("imagefolder", "2.png")])
def test_what_is_no_file_is_one_line(
    kind: str, dataset: str, name: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = nnunet_folders / "source/folder" / name
    place.parent.mkdir(parents=True)
    if kind == "a pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/null")
    assert convert(nnunet_folders, dataset, {}) == 2
    assert f"{name} is not a regular file" in capsys.readouterr().err


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_a_layout_with_the_same_masks_and_other_images_is_tried(nnunet_folders: Path) -> None:
    files = {
        name.replace("reg_", ""): data
        for name, data in trees.mrbrains18().items()
        if not name.endswith("pre/T1.nii.gz")
    }
    assert convert(nnunet_folders, "mrbrains18", files, "--channels", "T1", "T1-IR") == 0
    assert {row["split"] for row in rows(nnunet_folders).values()} == {"train"}
    assert set(rows(nnunet_folders)) == {"1", "4", "070"}


@pytest.mark.parametrize("folder", ["derivatives/lesions/", "derivatives/", ""])
def test_a_layout_with_the_same_images_and_other_masks_is_tried(folder: str, nnunet_folders: Path) -> None:
    files: trees.Files = {}
    for i in (1, 2, 3):
        files[f"ds007212/sub-{i:03d}/anat/sub-{i:03d}_T1w.nii.gz"] = image(i)
        if i < 3:
            files[f"ds007212/{folder}sub-{i:03d}/anat/sub-{i:03d}_label-lesion_mask.nii.gz"] = box()
    assert convert(nnunet_folders, "ds007212", files) == 0
    splits = {case: row["split"] for case, row in rows(nnunet_folders).items()}
    assert splits == {"sub-001": "train", "sub-002": "train", "sub-003": "test"}


# --- names -----------------------------------------------------------------------------------------------------------


def in_latin_1(path: str) -> str:
    """Return a path whose bytes on disk are Latin-1."""
    return os.fsdecode(path.encode("latin-1"))


def test_names_that_are_not_utf_8_are_converted_and_told_readably(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = nnunet_folders / in_latin_1("Löwe")
    names = ("sub-Müller/ses-1/anat/sub-Müller_ses-1_T1w", "sub-Müller/ses-2/anat/sub-Müller_ses-2_T1w", "sub-2_T1w")
    for i, name in enumerate((*names, "sub-Müller_FLAIR")):
        save(image(i), root / in_latin_1(f"{name}.nii.gz"))
    (root / in_latin_1("sub-Schön_T1w.nii.gz")).write_text("no image")
    command = ["convert", "t1_bids", str(root), "-d", "4", "--name", "Test", "--processes", "1", "--allow-skips"]
    real, done = workers.convert_case, []

    def interrupted(case: Any, job: Any, state: str) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(case.name)
        return real(case, job, state)

    with monkeypatch.context() as patched:
        patched.setattr(workers, "convert_case", interrupted)
        assert main(command) == 130
    assert main(command) == 0
    assert r"sub-M\xfcller_FLAIR.nii.gz" in capsys.readouterr().out
    assert main(command) == 0
    assert "nothing has changed, nothing was done" in capsys.readouterr().out

    table = rows(nnunet_folders)
    # one record is from before the interrupt, the other from after it
    assert {row["subject"] for row in table.values()} == {r"sub-M\xfcller", "sub-2"}
    assert {row["source_name"] for row in table.values()} == {r"sub-M\xfcller_ses-1", r"sub-M\xfcller_ses-2", ""}
    assert r"sub-M\xfcller/ses-1/anat/sub-M\xfcller_ses-1_T1w.nii.gz" in {row["source_files"] for row in table.values()}
    folder = nnunet_folders / f"raw/{OUT}"
    assert r"sub-M\xfcller_FLAIR.nii.gz,not T1w (FLAIR)" in (folder / "conversion_left_out.csv").read_text()
    assert r"sub-Sch\xf6n_T1w.nii.gz is not a NIfTI file" in (folder / "conversion_skips.csv").read_text()
    state = read_json(folder / "conversion.json")
    assert state["source"].endswith(r"L\xf6we")
    assert state["problems"][0]["files"][0].endswith(r"sub-Sch\xf6n_T1w.nii.gz")
    for line in (folder / "conversion_records.jsonl").read_text(encoding="utf-8").splitlines():
        assert parse_json(line)["subject"] in (r"sub-M\xfcller", "sub-2")


def test_long_names_are_cut_and_stay_apart(nnunet_folders: Path) -> None:
    root = nnunet_folders / "source"
    for i, name in enumerate((f"{'ω' * 100}/{'Ω' * 100}", f"{'ω' * 100}/{'Ω' * 101}", f"{'a' * 200}/{'b' * 200}", "c")):
        save(image(i), root / f"{name}.nii.gz")
    assert convert(nnunet_folders, "t1_folder", {}) == 0
    table = rows(nnunet_folders)
    assert len(table) == 4
    assert "c" in table
    assert {row["source_name"] for row in table.values()} >= {f"{'ω' * 100}_{'Ω' * 100}", f"{'a' * 200}_{'b' * 200}"}


# --- what is said ----------------------------------------------------------------------------------------------------


def test_names_do_not_reach_the_terminal_as_commands(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = nnunet_folders / "source"
    for i, name in enumerate(("sub-1\x1b[31m_T1w", "sub-2_T1w", "sub-1\x1b[32m_FLAIR")):
        save(image(i), root / f"{name}.nii.gz")
    (root / "participants.tsv").write_text("participant_id\tsex\nsub-1\x1b[31m\tF\x1b[33m\nsub-2\tM\n")
    for more in (["--dry-run"], []):
        assert convert(nnunet_folders, "t1_bids", {}, "--option", "class=sex", *more) == 0
        out, error = capsys.readouterr()
        assert "\x1b" not in out + error
        assert r"sub-1\x1b[32m_FLAIR.nii.gz" in out


def test_the_reasons_of_t1_folder_are_its_own(nnunet_folders: Path) -> None:
    root = nnunet_folders / "source"
    for i, name in enumerate(("sub-1_T1.nii.gz", "sub-2_T1.nii.gz", "sub-3_T1.nii.gz", "sub-1_FLAIR.nii.gz")):
        save(image(i), root / name)
    (root / "sub-1_T1.nrrd").write_text("")
    (root / "people.tsv").write_text("participant_id\tsex\nsub-1\tF\nsub-2\tM\nsub-3\tn/a\n")
    options = ("--option", "class=sex", f"table={root / 'people.tsv'}", "missing=leave-out", "name=*_T1*")
    assert convert(nnunet_folders, "t1_folder", {}, *options) == 0
    listed = (nnunet_folders / f"raw/{OUT}/conversion_left_out.csv").read_text().splitlines()[1:]
    assert listed == [
        "sub-1_FLAIR.nii.gz,not named *_T1*",
        "sub-1_T1.nrrd,not NIfTI or MGH",
        "sub-3_T1.nii.gz,class unknown",
    ]


def test_cases_without_a_subject_are_counted_as_subjects(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        path = nnunet_folders / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2, 3), len(name), np.uint8)).save(path)
    assert convert(nnunet_folders, "imagefolder", {}, "--dry-run") == 0
    assert "3 cases for training, 0 for testing, 3 subjects" in capsys.readouterr().out
    assert convert(nnunet_folders, "imagefolder", {}) == 0
    assert "note: empty, all its values are 9 in 3 cases: cat_1, cat_2, dog_1" in capsys.readouterr().out


def test_a_preview_names_no_table_that_it_does_not_write(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = nnunet_folders / "source"
    save(image(1), root / "sub-1_T1w.nii.gz")
    for suffix in "abcdefghi":
        (root / f"sub-1_{suffix}.nii.gz").write_text("")
    assert convert(nnunet_folders, "t1_bids", {}, "--dry-run") == 0
    assert "not taken: 1 more reason\n" in capsys.readouterr().out
    assert convert(nnunet_folders, "t1_bids", {}) == 0
    assert "not taken: 1 more reason, see conversion_left_out.csv\n" in capsys.readouterr().out


def test_a_layout_without_time_points_gives_names_without_them(nnunet_folders: Path) -> None:
    flat = {name.replace("test/P54/T1/P54_T1_", "test/P54/P54_"): data for name, data in trees.mslesseg().items()}
    assert convert(nnunet_folders, "mslesseg", flat) == 0
    assert rows(nnunet_folders).keys() == {"P1_T1", "P1_T2", "P1_T3", "P2_T1", "P54"}
