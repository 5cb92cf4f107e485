"""What earlier conversions left: a data set behind a link, a damaged record of the last run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.conversion import engine
from tests.conversion_runs import CASES, run, write_cases


@pytest.fixture
def tree(nnunet_folders: Path) -> Path:
    """A tree of `CASES` cases laid out like ATLAS R2.0."""
    return write_cases(nnunet_folders / "source")


def test_a_data_set_behind_a_link_is_replaced_for_good(tree: Path, nnunet_folders: Path) -> None:
    folder = run(tree).folder
    elsewhere = folder.rename(nnunet_folders / "elsewhere")
    folder.symlink_to(elsewhere)
    run(tree, overwrite=True, folds=2)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert elsewhere.is_dir()
    shutil.rmtree(folder)
    assert run(tree, limit=1).converted == 1


@pytest.mark.parametrize("changed", [None, {"problems": [1]}, {"problems": {}, "warnings": 3}, {"state": None}])
def test_a_damaged_state_is_one_line(
    changed: Any, tree: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run(tree).folder / engine.STATE
    path.write_text(json.dumps([] if changed is None else json.loads(path.read_text()) | changed))
    assert main(["convert", "atlas_r2", str(tree), "-d", "4"]) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert run(tree, overwrite=True).converted == CASES
