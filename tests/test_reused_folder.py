"""A report in the folder of an earlier one: nothing of the earlier one is left to be taken for a part of the new one."""

from __future__ import annotations

import shutil
from pathlib import Path

from nnunet_transfer.comparison import CompareSettings, ReportText, compare
from nnunet_transfer.comparison.viewer import niivue_script
from tests.comparison_data import DATASET, write_results

SCRATCH, T1, NATURAL = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation", "nnUNetTrainerNaturalClassification"
CASES = ["sub-1", "sub-2"]


def files_in(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.parent.name != "scores"
    }


def test_nothing_of_an_earlier_report_is_left(nnunet_folders: Path, monkeypatch) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9, NATURAL: 0.6}, CASES, n_folds=1)
    for folder in ("preprocessed", "raw", "results"):
        shutil.copytree(nnunet_folders / folder / DATASET, nnunet_folders / folder / "Dataset802_Others")
    monkeypatch.setattr("nnunet_transfer.comparison.case_section.PICTURED", 1)
    script = nnunet_folders / "niivue.umd.js"
    script.write_bytes(b"this.niivue={}")
    out, fresh = nnunet_folders / "out", nnunet_folders / "fresh"
    every = CompareSettings(protocols=["atlas_r2"], draws=100, surface=False)
    compare([801, 802], out=out, settings=every, text=ReportText(all_cases=True, viewer=niivue_script(script)))
    own = out / "tables" / "notes.tex"
    own.write_text("mine", encoding="utf-8")
    before = files_in(out)
    fewer = CompareSettings(draws=100, surface=False)
    for folder in (out, fresh):
        compare([801], out=folder, arms=[SCRATCH, T1], settings=fewer)
    own.unlink()
    assert files_in(out) == files_in(fresh)
    # each kind of file was there
    for kind in ("tables/Dataset802", "figures/Dataset802", "figures/grid", "cases/Dataset801", "viewer/Dataset801"):
        assert any(name.startswith(kind) for name in before - files_in(fresh)), kind
    assert {"viewer/niivue.js", "consensus.csv", "detection.csv"} <= before - files_in(fresh)
