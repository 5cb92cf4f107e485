"""Seeds decide all bytes of a synthesis, after an interrupt, too; what it left is used only if it would be made again."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.synthetic import synthesis
from nnunet_transfer.synthetic.settings import plan_synthesis
from nnunet_transfer.synthetic.synthesis import synthesize
from tests.at_an_event.sitecustomize import environment as at_an_event
from tests.synthesis_runs import bytes_of, load, real_settings, settings, write_inputs
from tests.synthetic_heads import head, save


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_inputs(tmp_path, monkeypatch)


def _interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be interrupted in the middle of a later case, between image and label."""
    make, saved = synthesis.make_case, []

    def interrupted(plan: Any, case: Any, work: Path) -> Any:
        if len(saved) == count:
            (work / "imagesTr" / f"{case.name}_0000.nii.gz").write_bytes(b"half")
            raise KeyboardInterrupt
        saved.append(case.name)
        return make(plan, case, work)

    monkeypatch.setattr(synthesis, "make_case", interrupted)


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_same_seed_same_bytes_after_an_interrupt_and_for_other_numbers_of_cases(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    wanted = (real_settings if kind == "real" else settings)(root)
    folder = synthesize(plan_synthesis(wanted))
    first = bytes_of(folder)
    folder.rename(root / "first")
    with monkeypatch.context() as patch:
        _interrupt_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            synthesize(plan_synthesis(wanted))
    assert not folder.exists()
    assert bytes_of(synthesize(plan_synthesis(wanted))) == first
    folder.rename(root / "second")
    # a case does not depend on how many there are, nor on other seeds' leftovers
    few = synthesize(plan_synthesis((real_settings if kind == "real" else settings)(root, count=3)))
    same = [name for name in bytes_of(few) if name.startswith(("imagesTr", "labelsTr"))]
    assert len(same) == 6
    assert all(bytes_of(few)[name] == first[name] for name in same)
    few.rename(root / "third")
    other = bytes_of(synthesize(plan_synthesis((real_settings if kind == "real" else settings)(root, seed=5))))
    assert not {other[n] for n in other if n.startswith("imagesTr")} & set(first.values())


def test_cases_of_a_stopped_run_are_kept_only_if_they_would_be_made_again(root: Path) -> None:
    plans = [plan_synthesis(settings(root, count=count)) for count in range(1, 7)]
    for fewer, more in itertools.combinations(plans, 2):
        same = more.cases[: len(fewer.cases)] == fewer.cases
        assert (fewer.state() == more.state()) == same, f"{len(fewer.cases)} and {len(more.cases)} cases"
    # the folds, and with them the donors, change until every label map is in use
    assert plans[0].state() != plans[1].state()
    assert plans[-2].state() == plans[-1].state()


@pytest.mark.slow
def test_several_processes_and_a_kill_change_no_byte(root: Path) -> None:
    wanted = settings(root, count=6)
    alone = bytes_of(synthesize(plan_synthesis(wanted)))
    (root / "raw/Dataset031_Synthetic").rename(root / "alone")
    command = [sys.executable, "-m", "nnunet_transfer.cli", "synthesize", str(root / "maps"), "-d", "31", "--n", "6"]
    command += ["--lesions", *wanted.lesions, "--mask-space", "image", "--processes", "2"]
    # each process stops with its first case of the second round
    stopped = at_an_event("*/records/*_v001.json", signal.SIGSTOP)
    process = subprocess.Popen(command, start_new_session=True, env=os.environ | stopped)
    records = root / "raw/.making-Dataset031_Synthetic/records"
    while not (records.is_dir() and len(list(records.glob("*.json"))) > 1):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True)
    assert bytes_of(root / "raw/Dataset031_Synthetic") == alone


def test_an_id_that_another_process_took_meanwhile_is_not_taken_again(root: Path) -> None:
    plan = plan_synthesis(real_settings(root, count=1))
    other = root / "raw/Dataset033_Other"
    other.mkdir()
    with pytest.raises(DataError, match=r"id 33 is used by .*Dataset033_Other"):
        synthesis.synthesize(plan)
    assert [path.name for path in (root / "raw").glob("*033*")] == ["Dataset033_Other"]


def test_a_case_that_fails_leaves_the_others_for_the_next_run(root: Path) -> None:
    bad = root / "maps/seg_b.nii.gz"
    good = bad.read_bytes()
    labels = head()
    labels[0, 0, 0] = 9999
    save(bad, labels)
    with pytest.raises(DataError, match=r"seg_b.* has the values 9999"):
        synthesize(plan_synthesis(settings(root)))
    assert not (root / "raw/Dataset031_Synthetic").exists()
    bad.write_bytes(good)
    assert synthesize(plan_synthesis(settings(root))).is_dir()


def test_what_was_interrupted_with_labels_in_another_order_is_not_taken_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    orders: list[dict[str, tuple[int, ...]]] = [{"wm": (1,), "gm": (2, 3)}, {"gm": (2, 3), "wm": (1,)}]
    with monkeypatch.context() as patched:
        patched.setattr(synthesis, "_write_tables", interrupt)
        with pytest.raises(KeyboardInterrupt):
            synthesize(plan_synthesis(real_settings(root, count=2, structures=orders[0])))
    folder = synthesize(plan_synthesis(real_settings(root, count=2, structures=orders[1])))
    assert read_json(folder / "dataset.json")["labels"] == {"background": 0, "gm": 1, "wm": 2, "lesion": 3}
    own = load(root / "raw/Dataset012_Anatomy/labelsTr/sub-0_ses-0.nii.gz")
    made = load(folder / "labelsTr/sub-0_ses-0_v000.nii.gz")
    assert set(np.unique(made[own == 1]).tolist()) <= {2, 3}
    assert set(np.unique(made[own == 2]).tolist()) <= {1, 3}


def test_labels_renamed_after_an_interrupt_are_not_mixed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_synthesis(real_settings(root)).state()
    path = root / "raw/Dataset012_Anatomy/dataset.json"
    content = read_json(path)
    content["labels"] = {"background": 0, "cortex": 1, "white matter": 2, "ventricles": 3}
    write_json(path, content)
    assert plan_synthesis(real_settings(root)).state() != before
