"""A conversion is all or nothing, goes on after an interrupt and does nothing twice; folds; a lab's own data set."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_transfer.cli import main
from nnunet_transfer.conversion import engine, workers
from nnunet_transfer.conversion.catalogue import all_descriptions, get_description
from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout
from nnunet_transfer.conversion.engine import convert
from nnunet_transfer.conversion.plan import Options, plan_conversion
from nnunet_transfer.conversion.record import Record
from nnunet_transfer.conversion.splits import deal, make_splits
from nnunet_transfer.errors import DataError, SettingsError
from tests import conversion_trees as trees
from tests.at_an_event.sitecustomize import environment as at_an_event
from tests.conversion_commands import case_r2
from tests.conversion_trees import box, image, write_tree

CASES = 4


@pytest.fixture
def tree(nnunet_folders: Path) -> Path:
    """A tree of `CASES` cases laid out like ATLAS R2.0."""
    files: trees.Files = {}
    for i in range(CASES):
        files |= case_r2(i, image(i), box(1, i + 1, 2))
    return write_tree(files, nnunet_folders / "source")


def run(root: Path, **options: Any) -> engine.Outcome:
    """Convert a tree laid out like ATLAS R2.0."""
    return convert(plan_conversion(get_description("atlas_r2"), root, 4, Options(**options)))


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return path -> content and time of change of all files below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Return path -> content of all files but the record of how they came about."""
    return {path: content for path, (content, _) in snapshot(folder).items() if path != engine.STATE}


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


def interrupt_after(cases: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make conversion stop at a case, as Ctrl-C does; return the list that names of converted cases go to."""
    done: list[str] = []
    real = workers.convert_case

    def convert_case(case: Any, job: Any, state: str) -> Any:
        if len(done) == cases:
            # what a process that was killed leaves
            (job.out / f"imagesTr/.tmp1-{case.name}_0000.nii.gz").write_bytes(b"half")
            (job.out / f"labelsTr/{case.name}.nii.gz").write_bytes(b"no record of it")
            raise KeyboardInterrupt
        done.append(case.name)
        return real(case, job, state)

    monkeypatch.setattr(workers, "convert_case", convert_case)
    return done


@pytest.mark.parametrize("stop", range(CASES))
def test_an_interrupted_conversion_goes_on_where_it_stopped(
    stop: int, tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(run(tree).folder)
    shutil.rmtree(nnunet_folders / "raw" / "Dataset004_ATLASR2")
    with monkeypatch.context() as patched:
        first = interrupt_after(stop, patched)
        with pytest.raises(KeyboardInterrupt):
            run(tree)
    # what nnU-Net would take for a data set isn't there
    assert not list((nnunet_folders / "raw").glob("Dataset*"))
    with monkeypatch.context() as patched:
        second = interrupt_after(CASES + 1, patched)
        outcome = run(tree)
    assert (len(first), len(second)) == (stop, CASES - stop)
    assert contents(outcome.folder) == whole
    assert [p.name for p in (nnunet_folders / "raw").iterdir()] == [outcome.folder.name]


def test_an_unreadable_record_is_converted_again_or_named(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupt_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            run(tree)
    journal = nnunet_folders / "raw/.making-Dataset004_ATLASR2/conversion_records.jsonl"
    # a column that was renamed since
    journal.write_text(journal.read_text().replace('"dtype"', '"stored_as"'))
    outcome = run(tree)
    assert outcome.converted == CASES
    journal = outcome.folder / journal.name
    journal.write_text(journal.read_text().replace("{", "", 1))
    with pytest.raises(
        DataError, match=r"conversion_records.jsonl is damaged, or of another version; give --overwrite"
    ):
        run(tree)


def lab(classes: dict[str, int], **changes: str) -> DatasetDescription:
    """Describe a lab's data set with masks of several classes."""
    facts = {"title": "ours", "licence": "internal", "citation": "none", "request": "ours"} | changes
    layout = Layout(prefix="{subject}/", images={"T1": "t1.nii.gz"}, labels={"tissues": "tissues.nii.gz"})
    return DatasetDescription(
        name="lab", folder_name="Lab", label_sets={"tissues": LabelRule(classes)}, layouts=(layout,), **facts
    )


@pytest.mark.parametrize("interrupted", [False, True])
def test_classes_in_another_order_are_other_labels(
    interrupted: bool, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: trees.Files = {}
    for i in range(CASES):
        files |= {f"p{i}/t1.nii.gz": image(i), f"p{i}/tissues.nii.gz": trees.stripes(0, 2, 3)}
    root = write_tree(files, nnunet_folders / "source")
    first, other = lab({"grey": 2, "white": 3}), lab({"white": 3, "grey": 2})
    with monkeypatch.context() as patched:
        if interrupted:
            interrupt_after(2, patched)
        with pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext():
            convert(plan_conversion(first, root, 4, Options()))
    if not interrupted:
        with pytest.raises(DataError, match="exists and differs from what this command makes"):
            convert(plan_conversion(other, root, 4, Options()))
    outcome = convert(plan_conversion(other, root, 4, Options(overwrite=not interrupted)))
    assert outcome.converted == CASES
    assert json.loads((outcome.folder / "dataset.json").read_text())["labels"]["white"] == 1
    stored = np.asarray(nib.load(root / "p0/tissues.nii.gz").dataobj)
    for path in (outcome.folder / "labelsTr").iterdir():
        assert np.array_equal(np.asarray(nib.load(path).dataobj) == 1, stored == 3), path.name


def test_other_terms_are_another_data_set(nnunet_folders: Path) -> None:
    files: trees.Files = {}
    for i in range(2):
        files |= {f"p{i}/t1.nii.gz": image(i), f"p{i}/tissues.nii.gz": trees.stripes(0, 1, 2)}
    root = write_tree(files, nnunet_folders / "source")
    classes = {"grey": 1, "white": 2}
    convert(plan_conversion(lab(classes), root, 4, Options()))
    with pytest.raises(DataError, match="exists and differs"):
        convert(plan_conversion(lab(classes, licence="CC BY"), root, 4, Options()))


def has_stopped_child(pid: int) -> bool:
    """Whether a process below this one has been stopped by a signal."""
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_STOPPED:
                return True
    return False


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_conversion_ended_from_outside_goes_on(end: signal.Signals, nnunet_folders: Path) -> None:
    cases = 8
    files: trees.Files = {}
    for i in range(cases):
        files |= case_r2(i, image(i), box())
    root = write_tree(files, nnunet_folders / "source")
    command = [*(sys.executable, "-m", "nnunet_transfer.cli", "convert", "atlas_r2", str(root))]
    command += ["-d", "4", "--processes", "2"]
    # the sixth case stops in its middle, and so the conversion can't be over too soon
    stopped = at_an_event("*/imagesTr/*r005_ses-1_0000.nii.gz", signal.SIGSTOP)
    started = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ | stopped
    )
    journal = nnunet_folders / "raw/.making-Dataset004_ATLASR2/conversion_records.jsonl"
    # a worker that has yet to stop would do so after the signals, with nobody to wake it
    while not (journal.is_file() and journal.read_text().count("\n") > 3 and has_stopped_child(started.pid)):
        assert started.poll() is None
        time.sleep(0.01)
    os.killpg(started.pid, end)  # as Ctrl-C and the kernel do: the workers, too
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGCONT)
    _, error = started.communicate()
    if end == signal.SIGINT:
        assert started.returncode == 130
        assert "Traceback" not in error
        assert error.splitlines()[-1] == "nnunet_transfer convert: interrupted"
    done = journal.read_text().count("\n")
    assert 3 < done < cases
    outcome = run(root, processes=2)
    assert outcome.converted == cases - done
    assert [p.name for p in (nnunet_folders / "raw").iterdir()] == ["Dataset004_ATLASR2"]
    assert {len(list((outcome.folder / part).iterdir())) for part in ("imagesTr", "labelsTr")} == {cases}


def test_a_worker_that_is_ended_is_reported_and_the_rest_kept(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(workers, "convert_case", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert main(["convert", "atlas_r2", str(tree), "-d", "4", "--processes", "2"]) == 2
    assert "a worker process was killed" in capsys.readouterr().err
    assert run(tree).converted == CASES


def test_what_an_interrupted_conversion_with_other_options_left_is_not_used(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupt_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            run(tree, reorient="RAS")
    outcome = run(tree)
    assert outcome.converted == CASES
    assert {record.written_orientation for record in outcome.records} == {"LPS"}


def test_the_old_data_set_stays_until_the_new_one_is_complete(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run(tree).folder)
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tree, overwrite=True, folds=2)
    assert contents(nnunet_folders / "raw/Dataset004_ATLASR2") == before


def test_a_full_disk_leaves_no_data_set(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    with monkeypatch.context() as patched:
        patched.setattr("nnunet_transfer.conversion.tables.write_manifest", full)
        assert main(["convert", "atlas_r2", str(tree), "-d", "4", "--processes", "1"]) == 2
    assert "no space left on the disk" in capsys.readouterr().err
    assert not list((nnunet_folders / "raw").glob("Dataset*"))
    # the cases are done; only the tables are left to write
    assert (run(tree).converted, run(tree).unchanged) == (0, True)
    assert (nnunet_folders / "raw/Dataset004_ATLASR2/conversion_manifest.csv").is_file()


def test_processes_make_no_difference(tree: Path, nnunet_folders: Path) -> None:
    alone = contents(run(tree).folder)
    assert contents(run(tree, overwrite=True, processes=2).folder) == alone


def test_an_id_in_use_is_refused(tree: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nnunet_folders / "raw/Dataset004_Else").mkdir()
    assert main(["convert", "atlas_r2", str(tree), "-d", "4"]) == 2
    assert "id 4 is used by Dataset004_Else" in capsys.readouterr().err
    assert [p.name for p in (nnunet_folders / "raw").iterdir()] == ["Dataset004_Else"]


def test_a_dry_run_writes_nothing(tree: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", "atlas_r2", str(tree), "-d", "4", "--dry-run"]
    assert main(arguments) == 0
    assert f"Dataset004_ATLASR2: {CASES} cases for training, 0 for testing, {CASES} subjects" in capsys.readouterr().out
    next(tree.rglob("sub-r001*T1w.nii.gz")).unlink()
    assert main(arguments) == 1
    assert "left out: sub-r001_ses-1: there is a mask but no image" in capsys.readouterr().out
    assert main([*arguments, "--allow-skips"]) == 0
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


# --- install-splits --------------------------------------------------------------------------------------------------


@pytest.fixture
def preprocessed(tree: Path, nnunet_folders: Path) -> Path:
    """The folder that preprocessing makes of the converted tree."""
    records = run(tree, folds=2).records
    folder = nnunet_folders / "preprocessed/Dataset004_ATLASR2"
    (folder / "gt_segmentations").mkdir(parents=True)
    for record in records:
        (folder / f"gt_segmentations/{record.case}.nii.gz").touch()
    return folder


def test_splits_are_installed_once(preprocessed: Path, nnunet_folders: Path) -> None:
    for _ in range(2):
        assert main(["install-splits", "-d", "4"]) == 0
        installed = (preprocessed / "splits_final.json").read_bytes()
        assert installed == (nnunet_folders / "raw/Dataset004_ATLASR2/splits_final.json").read_bytes()


def test_other_splits_are_replaced_only_when_asked(preprocessed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (preprocessed / "splits_final.json").write_text("[]")
    assert main(["install-splits", "-d", "4"]) == 2
    assert "has other folds; give --overwrite" in capsys.readouterr().err
    assert (preprocessed / "splits_final.json").read_text() == "[]"
    assert main(["install-splits", "-d", "4", "--overwrite"]) == 0
    assert len(json.loads((preprocessed / "splits_final.json").read_text())) == 2


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (
            lambda p, raw: (p / "gt_segmentations/sub-r001_ses-1.nii.gz").unlink(),
            "case sub-r001_ses-1 isn't preprocessed",
        ),
        (lambda p, raw: (p / "gt_segmentations/new.nii.gz").touch(), "case new isn't in the folds"),
        (lambda p, raw: shutil.rmtree(p), "holds no preprocessed cases; run nnUNetv2_plan_and_preprocess first"),
        (lambda p, raw: (raw / "splits_final.json").unlink(), "does not exist; convert the data set"),
        (lambda p, raw: (raw / "splits_final.json").write_text("[{}]"), "is not a list of folds"),
        (
            lambda p, raw: (raw / "splits_final.json").write_text('[{"train": ["a"], "val": ["a"]}]'),
            "a is in train and in val of fold 0",
        ),
    ],
)
def test_splits_that_do_not_fit_are_refused(
    spoil: Any, wanted: str, preprocessed: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(preprocessed, nnunet_folders / "raw/Dataset004_ATLASR2")
    assert main(["install-splits", "-d", "4"]) == 2
    assert wanted in capsys.readouterr().err
    assert not (preprocessed / "splits_final.json").exists()


# --- folds -----------------------------------------------------------------------------------------------------------


def record(case: str, **values: Any) -> Record:
    """Return a training case's record."""
    common = {"session": "", "rater": "", "split": "train", "class_name": "", "state": "", "source_files": ()}
    return Record(**{"case": case, "subject": case, "site": "", "content": case, **common, **values})


@st.composite
def cohorts(draw: st.DrawFn) -> list[Record]:
    """Draw cases of subjects at sites, with lesions or without."""
    subjects = draw(st.integers(2, 15))
    found = []
    for subject in range(subjects):
        site = f"site{draw(st.integers(0, 3))}"
        for visit in range(draw(st.integers(1, 4))):
            load = draw(st.one_of(st.none(), st.just(0.0), st.floats(0.01, 100)))
            found.append(record(f"s{subject}v{visit}", subject=f"s{subject}", site=site, lesion_ml=load))
    return found


@given(cohorts(), st.integers(2, 7), st.sampled_from(["subject", "site"]))
def test_every_case_is_validated_once_and_no_group_straddles_folds(
    records: list[Record], folds: int, group_by: str
) -> None:
    splits, warnings = make_splits(records, folds, group_by)
    group = {r.case: getattr(r, group_by) for r in records}
    count = len(set(group.values()))
    assert len(splits) == (min(folds, count) if count > 1 else 0)
    assert bool(warnings) == (count < folds)
    if not splits:
        return
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(group)
    for fold in splits:
        assert fold["val"]
        assert fold["train"]
        assert sorted(fold["train"] + fold["val"]) == sorted(group)
        assert {group[c] for c in fold["val"]}.isdisjoint(group[c] for c in fold["train"])


@given(st.permutations([record(f"c{i}", site=f"s{i % 3}", lesion_ml=float(i)) for i in range(12)]))
@settings(max_examples=20)
def test_folds_do_not_depend_on_the_order_of_cases(records: list[Record]) -> None:
    assert make_splits(records) == make_splits(sorted(records, key=lambda r: r.case))


def test_folds_are_alike_in_site_and_lesion_load() -> None:
    rng = np.random.default_rng(0)
    sites = rng.choice(["a", "b", "c", "d"], 655, p=[0.5, 0.3, 0.15, 0.05])
    loads = np.where(rng.random(655) < 0.05, 0, rng.lognormal(1, 2, 655))
    records = [record(f"c{i:03d}", site=str(sites[i]), lesion_ml=float(loads[i])) for i in range(655)]
    by_case = {r.case: r for r in records}
    quarters = np.quantile(loads[loads > 0], [0.25, 0.5, 0.75])
    splits, _ = make_splits(records)
    assert {len(fold["val"]) for fold in splits} == {131}
    for stratum in (
        lambda r: r.site,
        lambda r: -1 if not r.lesion_ml else int(np.searchsorted(quarters, r.lesion_ml)),
    ):
        counts = [Counter(stratum(by_case[c]) for c in fold["val"]) for fold in splits]
        for name in set().union(*counts):
            shares = [count[name] for count in counts]
            assert max(shares) - min(shares) <= 2, (name, shares)


def test_classes_are_spread_over_folds() -> None:
    records = [record(f"c{i:02d}", class_name="rare" if i < 5 else "common") for i in range(50)]
    splits, _ = make_splits(records)
    assert [sum(case < "c05" for case in fold["val"]) for fold in splits] == [1] * 5


def test_a_case_without_site_can_not_be_grouped_by_site() -> None:
    with pytest.raises(SettingsError, match="case b has no site; take --group-by subject"):
        make_splits([record("a", site="x"), record("b")], 2, "site")


def test_subjects_of_several_sites_stay_on_one_side_of_each_fold() -> None:
    # the second visit of two subjects is at another site
    records = [
        record(f"s{i}v{visit}", subject=f"s{i}", site="ABCDEF"[(i + (visit == 1 and i in (0, 2))) % 6])
        for i in range(12)
        for visit in range(2)
    ]
    splits, warnings = make_splits(records, 5, "site")
    assert len(splits) == 4
    for part in ("subject", "site"):
        group = {r.case: getattr(r, part) for r in records}
        for fold in splits:
            assert {group[c] for c in fold["val"]}.isdisjoint(group[c] for c in fold["train"])
    assert warnings == [
        "sites of one subject share a fold; 2 subjects at several: s0 (A, B), s2 (C, D)",
        "4 folds instead of 5: there are only 4 groups of cases",
    ]
    travelling = [record(f"v{site}", subject="s", site=site) for site in "AB"]
    assert make_splits(travelling, 2, "site") == (
        [],
        [
            "sites of one subject share a fold; 1 subject at several: s (A, B)",
            "no splits: all training cases are of sites that share subjects",
        ],
    )


def test_more_folds_than_groups_can_not_be_dealt() -> None:
    with pytest.raises(DataError, match="1 group of cases can't be split into 2 folds"):
        deal({"a": "x", "b": "x"}, {}, 2)
