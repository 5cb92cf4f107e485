"""Names in any script, tables of participants, trees with links, masks that are none, resampled lesions."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transfer.cli import main
from nnunet_transfer.conversion import engine, workers
from nnunet_transfer.conversion.bids import Exclusions, parse_name, why_not_raw_magnitude
from nnunet_transfer.conversion.description import Case
from nnunet_transfer.conversion.geometry import stored_otherwise
from nnunet_transfer.conversion.label_resampling import resample_by_coverage, resample_nearest
from nnunet_transfer.conversion.labels import binarised, find_level, value_counts
from nnunet_transfer.conversion.names import safe_names, transliterated
from nnunet_transfer.conversion.participants import read_table, value_of
from nnunet_transfer.conversion.tree import walk_tree
from nnunet_transfer.errors import DataError
from nnunet_transfer.work import id_held
from tests.conversion_commands import GOOD, convert, refusal, rows
from tests.conversion_trees import image, save, write_tree


@given(st.sets(st.text(min_size=1, max_size=12), max_size=20))
def test_names_stay_apart_and_are_what_nnunet_accepts(names: set[str]) -> None:
    safe = safe_names(names)
    assert set(safe) == names
    assert len({name.lower() for name in safe.values()}) == len(names)
    assert all(name and name == transliterated(name) for name in safe.values())


def test_endings_in_capitals_are_endings(nnunet_folders: Path) -> None:
    root = write_tree(GOOD, nnunet_folders / "source")
    for path in root.rglob("sub-r001*.nii.gz"):
        path.rename(path.with_name(path.name.removesuffix(".nii.gz") + ".NII.gz"))
    assert convert(nnunet_folders, "atlas_r2", {}) == 0
    assert [row["split"] for row in rows(nnunet_folders).values()] == ["train", "train"]


def test_cases_of_one_name_are_told_by_their_files(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"{site}/sub-01_T1w.nii.gz": image(seed) for seed, site in enumerate("ABC")}
    error = refusal(nnunet_folders, capsys, "t1_bids", files)
    assert "3 cases have this name: A/sub-01_T1w.nii.gz, B/sub-01_T1w.nii.gz and 1 more" in error


def test_names_are_spelt_as_a_reader_would() -> None:
    assert safe_names(["Müller", "Möller", "Muller", "李", "O'Neil (2)", "Ødegård", "Ωmega"]) == {
        "Müller": "Muller-2",
        "Möller": "Moller",
        "Muller": "Muller",
        "李": "u674e",
        "O'Neil (2)": "O-Neil-2",
        "Ødegård": "Odegard",
        "Ωmega": "Omegamega",
    }


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.text("\"' x1", min_size=1, max_size=5)), min_size=1, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
)
def test_tab_separated_tables_are_split_at_tabs_alone(rows: list[tuple[str, str]], end: str, mark: str) -> None:
    text = mark + end.join(["participant_id\tcomment", *(f"sub-{name}\t{cell}" for name, cell in rows)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "participants.tsv"
        path.write_bytes(text.encode())
        table = read_table(path)
    found = [(name, row.cells["comment"]) for name, own in table.rows.items() for row in own]
    assert sorted(found) == sorted((f"sub-{name}", cell.strip()) for name, cell in rows)


@pytest.mark.parametrize(("column", "first"), [("session_id", "ses-1"), ("session", "01")])
def test_rows_are_those_of_the_session_and_must_agree(column: str, first: str, tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    path.write_text(f"participant_id\t{column}\tstage\nsub-1\t{first}\tearly\nsub-1\t2\tlate\nsub-2\t1\tearly\n")
    table = read_table(path)

    def stage(subject: str, session: str) -> str:
        return value_of(table, Case("c", {}, subject=subject, session=session), "stage")

    assert (stage("sub-1", "ses-1"), stage("sub-1", "ses-2"), stage("sub-2", "ses-2")) == ("early", "late", "")
    with pytest.raises(DataError, match=r"early \(line 2\), late \(line 3\)"):
        stage("sub-1", "")


def test_a_row_without_a_subject_is_of_none(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tsex\n\tall\n1\tF\n")
    assert value_of(read_table(path), Case("a", {}, subject="sub-00"), "sex") == ""
    path.write_text("participant_id\tsex\n\tall\n0\tF\n")
    assert value_of(read_table(path), Case("a", {}, subject="sub-00"), "sex") == "F"


def test_a_subject_in_two_spellings_has_the_rows_of_both(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tsex\nsub-01\tF\n01\tM\nsub-Mu\u0308\tM\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"several values of sex for a: F \(line 2\), M \(line 3\)"):
        value_of(read_table(path), Case("a", {}, subject="sub-01"), "sex")
    # a letter and its accent, or both in one
    assert value_of(read_table(path), Case("b", {}, subject="sub-M\u00fc"), "sex") == "M"


@pytest.mark.parametrize("mark", [",", ";"])
def test_a_tsv_that_a_spreadsheet_saved_with_other_marks_is_read(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    path.write_text(f'participant_id{mark}sex\nsub-01{mark}"F"\nsub-02{mark}M\n', encoding="utf-8")
    table = read_table(path)
    assert [value_of(table, Case("a", {}, subject=f"sub-0{i}"), "sex") for i in (1, 2)] == ["F", "M"]


def test_tables_and_descriptions_of_any_content_end_no_search(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table.tsv")
    with pytest.raises(DataError, match="not a regular file"):
        read_table(tmp_path / "table.tsv")
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01" / "dataset_description.json").write_text("[" * 100_000)
    assert Exclusions(tmp_path, ["sub-01/a.nii.gz"]).reason("sub-01/a.nii.gz") == ""


def test_links_are_followed_once_and_circles_named(tmp_path: Path) -> None:
    root, store = tmp_path / "bids", tmp_path / "store"
    for path in (root / "sub-1/a.nii", store / "sub-2/b.nii", root / ".hidden/c.nii"):
        path.parent.mkdir(parents=True)
        path.touch()
    (root / "sub-2").symlink_to(store / "sub-2")
    (root / "sub-3").symlink_to(root / "sub-1")
    (store / "sub-2/loop").symlink_to(store / "sub-2")
    (root / "up").symlink_to(tmp_path)
    tree = walk_tree(root)
    assert tree.files == ["sub-1/a.nii", "sub-2/b.nii"]
    assert [item.path for item in tree.left_out] == [".hidden/c.nii", "sub-2/loop/", "sub-3/", "up/"]


@pytest.mark.parametrize(
    ("stem", "reason"),
    [
        ("sub-CC-0003_T1w", ""),
        ("sub-05_ses-1+2_T1w", ""),
        ("sub-1_part-mag_T1w", ""),
        ("sub-1_part-phase_T1w", "phase image"),
        ("sub-1_space-MNI_T1w", "computed or resampled copy (space-MNI)"),
        ("sub-1_foo-1_T1w", "unknown entity foo-"),
    ],
)
def test_magnitude_images_as_scanned_are_taken(stem: str, reason: str) -> None:
    name = parse_name(stem)
    assert name is not None
    assert why_not_raw_magnitude(name) == reason


@given(st.sampled_from([(1, "u1"), (255, "u1"), (-1, "i1"), (0.9999999776, "f4"), (254.99, "f8")]), st.integers(0, 9))
def test_one_level_is_a_binary_mask(level: tuple[float, str], seed: int) -> None:
    truth = np.random.default_rng(seed).random((5, 6, 4)) < 0.4
    mask = truth.astype(level[1]) * np.dtype(level[1]).type(level[0])
    counts = value_counts(mask)
    assert sum(counts.values()) == mask.size
    np.testing.assert_array_equal(binarised(mask, find_level(counts, mask.dtype, "m")), truth)


@pytest.mark.parametrize("values", [[0.5, 1], [1, 2], [0.1, 0.2, 0.9], [-1, 1], [1.99, 254.99], [np.inf]])
def test_several_levels_are_no_binary_mask(values: list[float]) -> None:
    mask = np.array([0, *values], np.float32)
    with pytest.raises(DataError, match="--threshold"):
        find_level(value_counts(mask), mask.dtype, "m")


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.0, 5.0]))
def test_coverage_keeps_every_lesion_that_nearest_neighbours_lose(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    label = np.zeros((20, 20, 20), np.uint8)
    label[tuple(rng.integers(0, 20, (3, 8)))] = 1
    shape = tuple([int(np.ceil(20 / factor))] * 3)
    target = np.diag([factor, factor, factor, 1.0])
    target[:3, 3] = (factor - 1) / 2
    by_coverage = resample_by_coverage(label, np.eye(4), shape, target, True)
    nearest = resample_nearest(label, np.eye(4), shape, target, True)
    assert by_coverage.lost == 0
    assert by_coverage.components == nearest.components
    if factor == 1:
        np.testing.assert_array_equal(by_coverage.data, label)
        np.testing.assert_array_equal(nearest.data, label)


def test_flipped_axes_are_told_from_another_place() -> None:
    flipped = np.diag([-1.0, 1, 2, 1])
    flipped[0, 3] = 9
    upright = np.diag([1.0, 1, 2, 1])
    assert stored_otherwise((10, 4, 3), upright, (10, 4, 3), flipped)
    assert not stored_otherwise((10, 4, 3), upright, (10, 4, 3), upright)


def test_whatever_a_case_does_becomes_its_line(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = nnunet_folders / "source"
    for number in (1, 2, 3):
        save(image(number), root / f"sub-{number}_T1w.nii.gz")
    real = workers.convert_volumes

    def convert_volumes(case: Case, *rest: object) -> object:
        if case.name == "sub-2_T1w":
            raise ZeroDivisionError("division\nby zero")
        return real(case, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(workers, "convert_volumes", convert_volumes)
    assert main(["convert", "t1_folder", str(root), "-d", "4", "--processes", "1", "--allow-skips"]) == 0
    skips = (nnunet_folders / "raw/Dataset004_T1/conversion_skips.csv").read_text()
    assert "sub-2_T1w,sub-2_T1w.nii.gz,ZeroDivisionError: division by zero" in skips
    assert "3 cases found, 2 converted, 1 left out" in capsys.readouterr().out
    with id_held(nnunet_folders / "raw/Dataset004_Other"):
        assert main(["convert", "t1_folder", str(root), "-d", "4", "--processes", "1"]) == 2
    assert "another process is making Dataset004" in capsys.readouterr().err


def test_an_id_that_another_conversion_took_meanwhile_is_kept(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = nnunet_folders / "source"
    save(image(1), root / "sub-1_T1w.nii.gz")
    real = engine.id_held

    def winner_was_faster(folder: Path) -> object:
        folder.with_name("Dataset004_Winner").mkdir()
        return real(folder)

    monkeypatch.setattr(engine, "id_held", winner_was_faster)
    assert main(["convert", "t1_folder", str(root), "-d", "4", "--processes", "1"]) == 2
    assert "Dataset004_Winner; choose another with -d" in capsys.readouterr().err
    assert [p.name for p in (nnunet_folders / "raw").glob("Dataset*")] == ["Dataset004_Winner"]
