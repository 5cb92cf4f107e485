"""Comparisons of as little as can be compared: what they print is still English, and says nothing twice."""

from __future__ import annotations

import gzip
import re
import shutil
from collections import Counter
from html import unescape
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_transfer.comparison import CompareSettings, Comparison, ReportText, compare
from nnunet_transfer.comparison.source_rankings import RANKING
from nnunet_transfer.comparison.wording import sentence
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.files import read_json, write_json
from tests.comparison_data import DATASET, SHAPE, save_mask, validation_folder, write_results
from tests.test_wording import ONE_OF_MANY

SCRATCH, T1 = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation"
SETTINGS = CompareSettings(protocols=["atlas_r2"], draws=100)


def report_of(folders: Path, settings: CompareSettings = SETTINGS) -> Comparison:
    return compare([801], out=folders / "out", settings=settings)


def page_of(folders: Path) -> str:
    return (folders / "out" / "report.html").read_text(encoding="utf-8")


def words_of(comparison: Comparison) -> tuple[str, list[str]]:
    """Return a report's whole text, and its paragraphs, points and captions but those of single cases."""
    page = comparison.report.read_text(encoding="utf-8")
    page = re.sub(r"<(style|script|svg)\b.*?</\1>", "", page, flags=re.S)
    before, _, rest = page.partition('<table class="cases">')
    outside = before + rest.partition('<section id="methods"')[2]
    marked = re.findall(r"<(p|li|figcaption|caption)\b[^>]*>(.*?)</\1>", outside, flags=re.S)

    def plain(text: str) -> str:
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())

    return plain(page), [plain(text) for _, text in marked if plain(text)]


def check_words(comparison: Comparison) -> str:
    """Check that nouns agree with their numbers and that nothing is said twice; return the terminal's text and the report's."""
    text, parts = words_of(comparison)
    terminal = (comparison.report.parent / "summary.txt").read_text(encoding="utf-8")
    assert re.findall(ONE_OF_MANY, text + terminal) == []
    assert [part for part, times in Counter(parts).items() if times > 1] == []
    return " ".join(terminal.split()) + text


@pytest.mark.parametrize("arms", [{SCRATCH: 0.5}, {SCRATCH: 0.5, T1: 0.9}])
@pytest.mark.parametrize("cases", [["sub-1"], ["sub-1", "sub-2"]])
def test_one_or_two_arms_and_cases(nnunet_folders: Path, arms: dict[str, float], cases: list[str]) -> None:
    write_results(nnunet_folders, arms, cases, n_folds=1)
    text = check_words(report_of(nnunet_folders))
    subjects = "1 subject" if len(cases) == 1 else "2 subjects"
    assert (f"Only {subjects}: no p-values are given. Treat the results as hints" in text) == (len(arms) > 1)
    assert '<a href="https://doi.org/10.1038/s41592-020-01008-z">' in page_of(nnunet_folders)
    assert not [alt for alt in re.findall(r'alt="([^"]*)"', page_of(nnunet_folders)) if re.search(r"\bnan\b", alt)]
    assert ("samples of subjects" in text) == (len(arms) == len(cases) == 2)
    # a single arm has no difference to anything
    assert ("difference from the baseline" in text) == (len(arms) > 1)


def test_one_empty_reference_has_its_verb(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9}, ["sub-1", "sub-2", "sub-3"], n_folds=1)
    save_mask(np.zeros(SHAPE), nnunet_folders / f"preprocessed/{DATASET}/gt_segmentations/sub-2.nii.gz")
    comparison = report_of(nnunet_folders, CompareSettings(protocols=["atlas_r2"], draws=100, empty="leave-out"))
    text = check_words(comparison)
    assert "1 of 3 cases has an empty reference." in text
    assert "2 of 3 subjects, the other has no lesion" in text
    # figures without the case don't count it
    of_dice = [words for words in words_of(comparison)[1] if "n = " in words and not words.startswith("Volumes")]
    assert len(of_dice) > 3
    assert {n for words in of_dice for n in re.findall("n = ([0-9]+) cases", words)} == {"2"}


def test_scans_without_a_lesion_are_told_from_subjects_without_one(nnunet_folders: Path) -> None:
    cases = [f"sub-{i}_ses-{scan}" for i in range(3) for scan in (1, 2)]
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9}, cases, n_folds=1)
    references = nnunet_folders / f"preprocessed/{DATASET}/gt_segmentations"
    settings = CompareSettings(draws=100, surface=False, tables_only=True, empty="leave-out")
    for case, said in (
        ("sub-2_ses-1", "(3 subjects, 5 of 6 scans, the other has no lesion)"),
        ("sub-2_ses-2", "(2 of 3 subjects, 4 of 6 scans, the others have no lesion)"),
    ):
        save_mask(np.zeros(SHAPE), references / f"{case}.nii.gz")
        assert said in sentence(report_of(nnunet_folders, settings).results[0])


def test_dollar_signs_in_names_are_no_formulas(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5}, ["sub-1", "sub-2"], n_folds=1)
    label = r"from $5 to $\b"
    for path in nnunet_folders.rglob("dataset.json"):
        write_json(path, read_json(path) | {"labels": {"background": 0, label: 1}})
    report = report_of(nnunet_folders, CompareSettings(draws=100, surface=False)).report
    # names are readable text in the drawing
    drawn = (report.parent / "figures" / f"{DATASET}_volumes_1.svg").read_text(encoding="utf-8")
    assert f"<!-- {label}: mean of reference and prediction, ml -->" in drawn


def test_of_several_labels_one_may_be_missing(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9}, ["sub-1", "sub-2", "sub-3"], n_folds=1)
    for path in (*nnunet_folders.rglob("gt_segmentations/sub-3*"), *nnunet_folders.rglob("validation/sub-3*")):
        mask = np.asarray(nib.load(path).dataobj).copy()
        mask[20:22, 16:19] = 2
        save_mask(mask, path)
    for path in nnunet_folders.rglob("dataset.json"):
        write_json(path, read_json(path) | {"labels": {"background": 0, "lesion": 1, "hole": 2}})
    settings = CompareSettings(protocols=["atlas_r2"], draws=100, empty="leave-out")
    comparison = report_of(nnunet_folders, settings)
    text = check_words(comparison)
    assert "2 of 3 cases have an empty reference of at least one label." in text
    # what counts all cases is not said to leave some out
    assert "but not of volumes, numbers of lesions and what is pooled over cases" in text
    volumes = comparison.table("volumes")
    assert set(volumes.loc[volumes["label"] == "hole", "n_cases"]) == {3}
    # a case's lesions are told apart
    tables = [
        table.partition("</table>")[0]
        for table in page_of(nnunet_folders).split("Reference lesions, largest first")[1:]
    ]
    assert sorted('<td class="words">hole</td>' in table for table in tables) == [False, False, True]
    assert sorted(">Label</th>" in table for table in tables) == [False, False, True]


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        (["0", "1"], "on the training cases of a fold, before"),
        ([""], "on all cases, including those that validate the arms, before"),
        (["0", ""], "on the training cases of a fold or, without a fold, on all cases"),
    ],
)
def test_a_ranking_says_which_cases_it_saw(folds: list[str], words: str, nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9}, ["sub-1", "sub-2"], n_folds=1)
    columns = ["target", *RANKING, "Dice low", "Dice high"]
    rows = [{"target": DATASET, "source": "t1", "fold": fold, "rank": "1", "Dice": "0.5"} for fold in folds]
    file = nnunet_folders / "ranking.csv"
    lines = [",".join(columns), *(",".join(row.get(column, "") for column in columns) for row in rows)]
    file.write_text("\n".join(lines), encoding="utf-8")
    settings, text = CompareSettings(draws=100, surface=False), ReportText(rankings=(file,))
    compare([801], out=nnunet_folders / "out", settings=settings, text=text)
    assert f"Scores of the sources {words}" in page_of(nnunet_folders)
    assert "HD95" not in page_of(nnunet_folders).partition('id="methods"')[2].replace("Dice 1, HD95 0 mm", "").replace(
        "Dice 0, HD95 the", ""
    )


def test_what_was_left_out_is_said_in_the_terminal_by_reason(nnunet_folders: Path) -> None:
    cases = [f"sub-{i:02d}" for i in range(9)]
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9}, cases, n_folds=3)
    shutil.rmtree(validation_folder(nnunet_folders, T1, 1).parent)
    save_mask(np.full(SHAPE, 9), validation_folder(nnunet_folders, SCRATCH, 2) / "sub-01.nii.gz")
    comparison = report_of(nnunet_folders, CompareSettings(draws=100, allow_missing=True))
    text = check_words(comparison)
    # and not counted
    assert "(Blobs: 5 cases of 5 subjects in 2 folds, 2 arms)" in text
    assert "Subjects were read from the case names: 5 subjects in 5 cases; for example, case sub-02 belongs to" in text
    said = f"Blobs, sub-00, sub-03, sub-06: {T1} fold 1 was not trained, but other arms were"
    assert text.count(said) == 2  # in the terminal and in the report
    assert f"Left out: {said}." in text


def test_where_no_case_can_be_scored_nothing_is_compared(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9}, ["sub-1", "sub-2"], n_folds=1)
    for case in ("sub-1", "sub-2"):
        save_mask(np.full(SHAPE, 9), validation_folder(nnunet_folders, SCRATCH, 0) / f"{case}.nii.gz")
    with pytest.raises(ComparisonError, match=r"2 cases can't be scored: .*; no case of Dataset801_Blobs is left; fix"):
        report_of(nnunet_folders, CompareSettings(draws=100, allow_missing=True))


def test_scans_of_one_subject_in_several_folds_are_found_where_they_were_validated(nnunet_folders: Path) -> None:
    cases = [f"sub-{i}_ses-{scan}" for i in range(3) for scan in (1, 2)]
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9}, cases, n_folds=2)
    comparison = report_of(nnunet_folders)
    text = check_words(comparison)
    assert "Doubtful: 3 subjects have cases in several folds" in text
    # six lesions in six scans count as three
    assert "Lesion detection pooled over subjects; numbers are means over each subject's scans: Blobs" in text
    page = comparison.report.read_text(encoding="utf-8")
    links = re.findall(r'href="([^"]*validation/[^"]*)"', page)
    assert len(links) == 2 * len(cases)
    assert all((comparison.report.parent / link).is_file() for link in links)


def test_predictions_are_found_and_drawn_in_any_format_and_those_of_several_trainings_told_apart(
    nnunet_folders: Path,
) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9, f"{T1}_seed1": 0.7}, ["sub-1", "sub-2"], n_folds=1)
    for path in validation_folder(nnunet_folders, T1, 0).iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    comparison = report_of(nnunet_folders)
    text = check_words(comparison)
    page = page_of(nnunet_folders)
    links = dict(re.findall(r'href="([^"]*validation/[^"]*)">([^<]*)<', page))
    assert all((comparison.report.parent / link).is_file() for link in links)
    assert sorted(links.values()) == ["no seed"] * 2 + ["prediction"] * 2 + ["seed 1"] * 2
    # the score is that of both trainings, the picture of one
    dice = comparison.results[0].per_case.set_index(["arm", "case"])["dice"]
    for case in ("sub-1", "sub-2"):
        assert f"T1 segmentation: mean Dice {dice[T1, case]:.3f} of 2 trainings, drawn: no seed" in text
        assert f"Scratch: Dice {dice[SCRATCH, case]:.3f}" in text
