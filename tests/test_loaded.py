"""Arms are what their networks loaded, not what they are called; subjects are told apart; settings have limits."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_transfer import doctor
from nnunet_transfer.cli import main
from nnunet_transfer.comparison import CompareSettings
from nnunet_transfer.comparison.markup import Column, latex_table
from nnunet_transfer.comparison.results import find_runs, short_titles, source_notices
from nnunet_transfer.errors import ComparisonError, DataError, SettingsError, StudyError
from nnunet_transfer.evaluation.protocols import PRESETS
from nnunet_transfer.evaluation.scores import ScoringSettings
from nnunet_transfer.evaluation.tables import csv_text
from nnunet_transfer.files import write_json
from nnunet_transfer.study import read_study
from nnunet_transfer.subjects import find_origin, subject_of

DATASET = "Dataset801_Blobs"
SCRATCH, NATURAL, TRANSFER = "nnUNetTrainerScratch", "nnUNetTrainerNaturalClassification", "nnUNetTrainerTransfer"
RIGHT = {"source": "natural_classification", "sha256": "a" * 64, "task": "classification", "domain": "natural"}
WRONG = RIGHT | {"task": "segmentation", "domain": "ct_abdomen", "sha256": "b" * 64}


def write_arm(folders: Path, trainer: str, *loaded: dict[str, str] | None, planned: str = "", plans: str = "p") -> None:
    """Write an arm's folder with a fold per transfer report; None stands for a fold without one."""
    model = folders / "results" / DATASET / f"{trainer}__{plans}__2d"
    for fold, content in enumerate(loaded):
        (model / f"fold_{fold}" / "validation").mkdir(parents=True)
        if content:
            write_json(model / f"fold_{fold}" / "transfer_report.json", content)
    if planned:
        write_json(model / "plans.json", {"transfer": {"source": planned}})


def doubts() -> list[str]:
    return [finding.found for finding in doctor.check_trained()]


def test_an_arm_that_loaded_what_its_name_says_raises_no_doubt(nnunet_folders: Path) -> None:
    write_arm(nnunet_folders, SCRATCH, None, None)
    write_arm(nnunet_folders, f"{NATURAL}_sawtooth_seed1", RIGHT, RIGHT)
    write_arm(nnunet_folders, TRANSFER, RIGHT | {"source": "mine"}, planned="mine")
    assert doubts() == []
    assert source_notices(find_runs(DATASET)) == []


@pytest.mark.parametrize(
    ("trainer", "loaded", "planned", "words"),
    [
        (NATURAL, WRONG, "", ("classification", "natural", "segmentation", "ct_abdomen")),
        (SCRATCH, RIGHT, "", ("from scratch", "natural_classification")),
        (TRANSFER, RIGHT, "t1_segmentation", ("t1_segmentation", "natural_classification")),
        (TRANSFER, WRONG, "natural_classification", ("classification", "ct_abdomen")),
    ],
)
def test_a_name_that_contradicts_what_was_loaded_is_a_warning_in_report_and_doctor(
    nnunet_folders: Path, trainer: str, loaded: dict[str, str], planned: str, words: tuple[str, ...]
) -> None:
    write_arm(nnunet_folders, f"{trainer}_5epochs", loaded, loaded, planned=planned)
    runs = find_runs(DATASET)
    (finding,) = doctor.check_trained()
    (notice,) = [notice for notice in source_notices(runs) if notice.startswith("Doubtful")]
    for text in (finding.found, notice):
        assert all(word in text for word in words)
    assert finding.state == doctor.State.WARN
    # task, domain and checksum are those of the report
    assert runs[0].arm.sha256 == loaded["sha256"]
    if trainer != SCRATCH:
        assert ("classification" in runs[0].arm.title.lower()) == (loaded["task"] == "classification")


def test_folds_that_loaded_different_sources_are_refused_and_named_by_doctor(nnunet_folders: Path) -> None:
    write_arm(nnunet_folders, NATURAL, RIGHT, RIGHT | {"sha256": "c" * 64})
    with pytest.raises(ComparisonError, match="loaded different sources"):
        find_runs(DATASET)
    (text,) = doubts()
    assert "fold 0" in text
    assert "cccccccccccc" in text


def test_an_arm_has_the_recipe_it_was_trained_with(nnunet_folders: Path) -> None:
    # a name without a recipe means the default of the version that trained
    write_arm(nnunet_folders, SCRATCH, None, None)
    folds = sorted((nnunet_folders / "results" / DATASET).glob("*/fold_*"))
    for fold in folds:
        write_json(fold / "provenance.json", {"run": {"recipe": "warmup"}})
    (run,) = find_runs(DATASET)
    assert (run.arm.name, run.trainer) == (f"{SCRATCH}_warmup", SCRATCH)
    write_json(folds[1] / "provenance.json", {"run": {"recipe": "fitted"}})
    with pytest.raises(ComparisonError, match="different recipes"):
        find_runs(DATASET)
    write_json(folds[1] / "provenance.json", {"run": {"recipe": ["no recipe"]}})
    assert find_runs(DATASET)[0].arm.trainer.recipe == "warmup"


def test_one_arm_trained_under_two_names_is_refused(nnunet_folders: Path) -> None:
    # their volumes and lesions would be added up as if they were labels
    write_arm(nnunet_folders, SCRATCH, None, None)
    write_arm(nnunet_folders, f"{SCRATCH}_fitted", None, None)
    with pytest.raises(ComparisonError, match=f"{SCRATCH} and {SCRATCH}_fitted are one arm, trained twice"):
        find_runs(DATASET)
    assert len(find_runs(DATASET, arms=[f"{SCRATCH}_fitted"])) == 1
    # the folder without a recipe in its name was trained when another was the default
    for fold in (nnunet_folders / "results" / DATASET).glob(f"{SCRATCH}__*/fold_*"):
        write_json(fold / "provenance.json", {"run": {"recipe": "warmup"}})
    assert len({run.arm for run in find_runs(DATASET)}) == 2
    write_arm(nnunet_folders, f"{SCRATCH}_warmup", None, None)
    with pytest.raises(ComparisonError, match="with the recipe warmup"):
        find_runs(DATASET)
    # another seed is another training of the arm
    write_arm(nnunet_folders, f"{NATURAL}_seed0", RIGHT)
    write_arm(nnunet_folders, f"{NATURAL}_fitted_seed1", RIGHT)
    assert {run.seed for run in find_runs(DATASET, arms=[NATURAL])} == {0, 1}


def test_versions_of_a_source_are_arms_of_their_own(nnunet_folders: Path) -> None:
    for i, letter in enumerate("de"):
        write_arm(nnunet_folders, f"{NATURAL}_seed{i}", RIGHT | {"sha256": letter * 64})
    write_arm(nnunet_folders, SCRATCH, None)
    runs = short_titles(find_runs(DATASET))
    arms = {run.arm.name: run.arm.title for run in runs}
    assert len(arms) == 3
    assert len(set(arms.values())) == 3
    assert {"d" * 8, "e" * 8} == {name.split("@")[1] for name in arms if "@" in name}


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("sub-01", "sub-01"),
        ("sub-01_ses-2", "sub-01"),
        ("sub-01_ses-2_run-1", "sub-01"),
        ("sub-CC-0001", "sub-CC-0001"),
        ("sub-CC-0001_ses-1+2_T1w", "sub-CC-0001"),
        ("sub-control_002", "sub-control_002"),
        ("sub-control_002_ses-03", "sub-control_002"),
        ("site-A_sub-01_ses-1", "site-A_sub-01"),
        ("P-017", "P-017"),
        ("patient_12_3", "patient_12_3"),
        ("李_01", "李_01"),
        ("ATLAS_0007", "ATLAS_0007"),
        *((f"P1_T{k}", "P1") for k in (1, 2, 3, 4, 12)),
        ("Site1_031768_t02", "Site1_031768"),
        ("P1_T3w.nii.gz", "P1"),
        ("Patient_T07", "Patient_T07"),
        ("pat-A_T1", "pat-A"),
        ("centre_T001", "centre_T001"),
        ("P1_T3_2", "P1_T3_2"),
    ],
)
def test_a_name_tells_its_subject_or_stands_for_itself(name: str, subject: str) -> None:
    assert subject_of(name) == subject


def test_how_subjects_were_found_is_said_with_an_example() -> None:
    cases = [f"sub-{i:02d}_ses-{k}" for i in range(5) for k in range(2)]
    origin = find_origin(cases, None)
    assert "5 subjects in 10 cases" in origin.statement
    assert "case sub-00_ses-0 belongs to subject sub-00" in origin.statement
    assert origin.warning == ""
    assert "read from the case names (nnUNet_raw lacks the data set" in origin.statement
    converted = find_origin([f"P{i}_T{k}" for i in (1, 2) for k in (1, 2, 3, 4)], None)
    assert set(converted.subject.values()) == {"P1", "P2"}
    nameless = find_origin([f"P-{i:03d}" for i in range(7)], None)
    assert "each case counts as a separate subject (nnUNet_raw lacks the data set" in nameless.statement
    assert len(set(nameless.subject.values())) == 7
    few = find_origin([f"sub-{group}_ses-{i}" for group in ("patient", "control") for i in range(10)], None)
    assert few.warning.startswith("Doubtful: 2 of 2 subjects have very many cases")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1, "x", True])
@pytest.mark.parametrize("name", ["rope", "tolerance_mm", "draws"])
def test_settings_out_of_range_are_refused_wherever_they_enter(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"{name} is"):
        CompareSettings(**{name: value})  # type: ignore[arg-type]
    if name == "tolerance_mm":
        with pytest.raises(SettingsError, match="tolerance_mm is"):
            ScoringSettings(tolerance_mm=value)  # type: ignore[arg-type]


def test_a_protocol_given_twice_is_refused_wherever_it_enters() -> None:
    # its lesions would count twice
    for wanted in (["atlas_r2", PRESETS["atlas_r2"]], {801: ["isles22", "isles22"]}):
        with pytest.raises(SettingsError, match=r"given twice: (atlas_r2|isles22)"):
            CompareSettings(protocols=wanted)
    with pytest.raises(SettingsError, match="given twice: atlas_r2"):
        ScoringSettings((PRESETS["atlas_r2"], replace(PRESETS["isles22"], name="atlas_r2")))


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "0", "-1"])
@pytest.mark.parametrize("name", ["rope", "tolerance_mm", "draws"])
def test_a_study_with_such_settings_is_refused_before_anything_runs(name: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(f"name: s\ncomparison:\n  {name}: {value}\n", encoding="utf-8")
    with pytest.raises(StudyError, match=rf"line 3: comparison\.{name}: [^;]*(finite number|minimum)"):
        read_study(tmp_path / "study.yaml")


@pytest.mark.parametrize("value", [-1, 0.5, float("nan")])
def test_a_seed_is_a_whole_number(value: float) -> None:
    with pytest.raises(SettingsError, match="seed is"):
        CompareSettings(seed=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"), [("--rope", "nan"), ("--tolerance", "inf"), ("--draws", "0"), ("--rope", "1")]
)
def test_the_commands_refuse_them_in_one_line(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "-d", "801", "-o", str(tmp_path / "out"), option, value]) == 2
    if option == "--tolerance":
        command = ["evaluate", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "o.csv"), option, value]
        assert main(command) == 2
    error = capsys.readouterr().err
    assert f" is {float(value) if option != '--draws' else value}" in error
    assert "Traceback" not in error


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]


def test_no_cell_of_a_table_is_a_formula() -> None:
    table = pd.DataFrame(
        {"case": [*FORMULAS, "sub-01"], "=x": np.linspace(-1, 1, 7), "mixed": ["=a", -1.5, None, 3, "-", "", "b"]}
    )
    rows = list(csv.reader(io.StringIO(csv_text(table))))
    assert not any(cell[:1] in ("=", "@", "\t", "\r") for row in rows for cell in row)
    assert [row[0] for row in rows[1:]] == [*(f"'{text}".replace("\r", " ") for text in FORMULAS), "sub-01"]
    # numbers stay numbers, their sign included
    assert [float(row[1]) for row in rows[1:]] == pytest.approx(list(table["=x"]))
    assert [row[2] for row in rows[1:]] == ["'=a", "-1.5", "", "3", "'-", "", "b"]


ODD_NAMES = [
    "a_b%c&d#e$f{g}h~i^j\\k",
    "[option] *",
    "*star",
    "病变 Läsion µ · − ≤ ł Ø ő ą ½ « 😀 € Ω İ ĵ",
    "?`x --- '' `` ,, << >> | \"",
    "line\n\nbreak\ttab\x00\x1b",
    "\\end{document}",
    "^^M ^^41 \\input{x}",
    "e\u0301 \u0338 \u202e",
    "",
    *"\\~^{}%&#$_[]*`'\"|<>-",
]
DOCUMENT = r"""\documentclass{article}
\IfFileExists{booktabs.sty}{\usepackage{booktabs}}{\let\toprule\hline\let\midrule\hline\let\bottomrule\hline}
\begin{document}\listoftables\input{table}\end{document}
"""


@pytest.mark.slow
def test_tables_of_any_names_are_typeset(tmp_path: Path) -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("there is no pdflatex: apt-get install texlive-latex-base")
    frame = pd.DataFrame({"title": ODD_NAMES, "x": -0.5, "n_cases": 3})
    columns = {"title": Column("[Arm_%]"), "x": Column("*x", 3), "n_cases": Column("n")}
    (tmp_path / "table.tex").write_text(latex_table(frame, columns, "50 % of Dataset_#1 {x} 病"), encoding="utf-8")
    (tmp_path / "document.tex").write_text(DOCUMENT, encoding="utf-8")
    # the second run reads the list of tables
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert run.returncode == 0, run.stdout[-2000:]
        assert "Output written on document.pdf" in run.stdout


@pytest.mark.parametrize(
    "table",
    [
        "\ufeffcase,subject\na,s\nb,s\n",
        "case;subject;site\r\na;s;x\r\nb;s;x\r\n",
        "case\tsubject\na\ts\nb\ts \n",
        "site, case, subject\nx, a, s\nx, b, s\n",
    ],
)
def test_a_manifest_may_come_from_a_spreadsheet(table: str, tmp_path: Path) -> None:
    (tmp_path / "conversion_manifest.csv").write_text(table, encoding="utf-8", newline="")
    origin = find_origin(["a", "b"], tmp_path)
    assert origin.subject == {"a": "s", "b": "s"}
    assert origin.statement.startswith(
        "Subjects were read from the data set's conversion manifest: 1 subject in 2 cases"
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("Case,Person\na,s\n", "not a table with the columns case and subject .its columns are Case, Person"),
        ("", "its columns are none"),
        ("case,subject\na,s\nb,t\na,t\n", "has case a twice, of subjects s and t"),
    ],
)
def test_a_manifest_that_says_nothing_or_two_things_is_refused(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "conversion_manifest.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        find_origin(["a", "b"], tmp_path)


def test_names_are_used_without_a_word_on_the_folder_if_it_has_no_manifest(tmp_path: Path) -> None:
    statement = find_origin(["sub-1_ses-1", "sub-1_ses-2"], tmp_path).statement
    assert statement.startswith("Subjects were read from the case names: 1 subject in 2 cases")


def test_a_manifest_with_gaps_is_said(tmp_path: Path) -> None:
    (tmp_path / "conversion_manifest.csv").write_text("case,subject\na,s\n", encoding="utf-8")
    assert find_origin(["a", "b"], tmp_path).statement.startswith("The conversion manifest names no subject of b. ")
