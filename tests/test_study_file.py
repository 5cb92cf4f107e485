"""A study file: what is read from it, and what is said about a wrong one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_transfer.cli import command_parser, main
from nnunet_transfer.conversion.geometry import POLICIES
from nnunet_transfer.conversion.plan import Options
from nnunet_transfer.errors import StudyError
from nnunet_transfer.naming import SIMCLR
from nnunet_transfer.study import read_study, study_jobs
from nnunet_transfer.study.validation import schema
from nnunet_transfer.study.workflow import Workflow
from tests.studies import write_atlas_tree
from tests.study_files import SMALL, Change, set_, write_study


def test_template_is_a_study_and_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    assert main(["study", "init", str(file)]) == 0
    study = read_study(file)
    assert [len(study.targets), len(study.arms), len(study.sources)] == [3, 7, 6]
    assert len([job for job in study_jobs(study).values() if job.kind == "finetune"]) == 7 * 3 * 5
    assert main(["study", "init", str(file)]) == 2
    assert "exists" in capsys.readouterr().err


def test_template_lacks_only_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.yaml"
    main(["study", "init", str(file)])
    assert main(["study", "check", str(file)]) == 1
    errors = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error:")]
    paths = [line for line in errors if "the folder /data/" in line]
    assert len(paths) == 7
    assert all("not enough disk" in line for line in set(errors) - set(paths))


def test_reading_a_study_imports_no_torch(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    code = (
        "import sys; from nnunet_transfer.cli import main\n"
        f"assert main(['study', 'check', {str(file)!r}]) == 0 and main(['study', 'status', {str(file)!r}]) == 0\n"
        "sys.exit('torch' in sys.modules or 'nnunetv2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        (set_("sedes", to=[1]), "sedes", "did you mean seeds"),
        (set_("targets", "stroke", "fold", to=[0]), "fold:", "unknown key; did you mean folds"),
        (set_("datasets", "t1", "synthetik", to="t1"), "synthetik", "did you mean synthetic"),
        (set_("profile", to="resnet81"), "profile", "did you mean resnet18"),
        (set_("device", to="gpu"), "device", "unknown 'gpu'; there are: cuda, cpu, mps"),
        (set_("seeds", to=["one"]), "- one", "must be a whole number"),
        (set_("seeds", to=[-1]), "- -1", "minimum"),
        (set_("datasets", "t1", "id", to=711), "id: 711", "is the id of"),
        (set_("datasets", "t1", "id", to="four"), "id: four", "must be a whole number"),
        (set_("datasets", "t1", to={"id": 702, "converter": "ixi"}), "converter", "goes with path"),
        (
            set_("datasets", "t1", to={"id": 702, "synthetic": "t1", "converter": "ixi", "path": "."}),
            "t1:",
            "either converted or synthetic",
        ),
        (set_("datasets", "t1", to={"synthetic": "t1"}), "t1:", "needs id"),
        (set_("datasets", "bad-name", to={"id": 5}), "datasets", "letters, digits"),
        (set_("sources", "t1_segmentation", "pretrain", to="t2"), "pretrain", "there are: t1, stroke"),
        (set_("sources", "mine", to={"pretrain": "t1"}), "mine", "give what it learns"),
        (set_("sources", "mine", to={"checkpoint": "x.pth"}), "mine", "checkpoint with task and domain"),
        *(
            (
                set_("sources", "t1_segmentation", key, to=value),
                f"{key}:",
                f"t1_segmentation.{key}: goes with checkpoint",
            )
            for key, value in {"domain": "t1", "trained_on": ["ATLAS"], "licence": "MIT", "map": "keys.txt"}.items()
        ),
        (set_("sources", "t1_segmentation", "checkpoint", to="x.pth"), "checkpoint", "doesn't go with pretrain"),
        *(
            (set_("sources", "mine", to={"fetch": "openmind_mae", key: value}), f"{key}:", f"mine.{key}: {message}")
            for key, value, message in (
                ("task", "segmentation", "doesn't go with fetch"),
                ("sha256", "0" * 64, "goes with checkpoint"),
                ("map", "keys.txt", "goes with checkpoint"),
                ("epochs", 100, "goes with pretrain"),
                ("seed", 0, "goes with pretrain"),
            )
        ),
        (
            set_("sources", "mine", to={"checkpoint": "x.pth", "task": "segmentation", "domain": "t1", "fold": 0}),
            "fold:",
            "goes with pretrain",
        ),
        (set_("datasets", "t1", to={"id": 702, "path": "."}), "path", "t1.path: goes with converter"),
        (set_("sources", "scratch", to={"pretrain": "t1"}), "scratch", "control arm"),
        (set_("sources", "my__src", to={"pretrain": "t1"}), "my__src", "a source's name may have"),
        (
            set_("sources", "twin", to={**SMALL["sources"]["t1_segmentation"], "task": "segmentation"}),
            "twin",
            "same training as t1_segmentation",
        ),
        (set_("sources", "t1_segmentation", "trainer", to="nnUNetTrainer"), "trainer", "nnUNetPretrainer"),
        (set_("sources", "t1_segmentation", "recipe", to="lpft"), "recipe", "takes adamw or fitted"),
        (
            set_("sources", "t1_segmentation", to={"pretrain": "t1", "trainer": SIMCLR, "mirroring": False}),
            "mirroring: false",
            "SimCLR itself mirrors",
        ),
        (set_("training", to={"mirroring": 0}), "mirroring: 0", "must be true or false"),
        (set_("sources", "t1_segmentation", "task", to="classify"), "task", "there are: classification"),
        (
            set_("arms", to=["scratch", "t1_segmentatoin"]),
            "- t1_segmentatoin",
            "there are: scratch, best, t1_segmentation",
        ),
        (set_("arms", to=["scratch", "scratch"]), "- scratch", "given twice"),
        (set_("arms", to=["t1_segmentation"]), "arms", "baseline scratch"),
        (set_("recipes", to=["sawtoth"]), "- sawtoth", "did you mean sawtooth"),
        (set_("arms", to=[{"source": "scratch", "recipes": ["slow"]}]), "- slow", "there are: warmup"),
        (set_("targets", "stroke", "dataset", to="strok"), "dataset: strok", "there are: t1, stroke"),
        (set_("targets", "twin", to={"dataset": "stroke"}), "dataset: stroke", "is target stroke"),
        (set_("targets", "stroke", "protocols", to=["atlas"]), "- atlas", "atlas_r2"),
        (set_("comparison", to={"baseline": "t1"}), "baseline", "t1_segmentation"),
        (set_("name", to="a__b"), "name", "__"),
        (set_("name", to="a b"), "name", "letters, digits"),
        (set_("folder", to="$NNUNET_TRANSFER_UNSET/x"), "", "NNUNET_TRANSFER_UNSET is not set"),
        (set_("resources", to={"finetune": {"gpus": 2}}), "gpus", "maximum"),
        (set_("seeds", to=[1.0]), "- 1.0", "must be a whole number, not 1.0"),
        (set_("seeds", to=[0, 0]), "seeds", "give each once"),
        (set_("datasets", "t1", "id", to=702.0), "id: 702.0", "must be a whole number"),
        (set_("training", to={"epochs": 1e3}), "epochs", "must be a whole number"),
        (set_("cases", to=["some"]), "- some", "must be all or a whole number"),
        (set_("arms", to=[None]), "- null", "must be text or a mapping"),
        (set_("arms", to=["scratch", {"recipes": ["full"]}]), "- recipes", "needs source"),
        (set_("configuration", to="3d_fulres"), "configuration", "there are: 2d, 3d_fullres, 3d_lowres"),
        (set_("environment", to={"A=B": "x"}), "environment", "letters, digits"),
        (
            set_("environment", to={"nnUNet_raw": "/x"}),
            "nnUNet_raw",
            "is a folder of the study; give it as folders.raw",
        ),
        (set_("folder", to="a\0b"), "folder", "NUL"),
        (set_("plans", to={"patch_size": [32, 32, 32]}), "patch_size", "no data set is used with as many"),
        (
            set_("datasets", "t1", "plans", to={"patch_size": [8, 8, 8]}),
            "  patch_size",
            "has 3 axes, but t1 is used in 2d",
        ),
        (
            lambda content: content.update(
                targets={"t" * 60: {"dataset": "stroke"}},
                sources={"s" * 60: {"pretrain": "t1", "task": "segmentation"}},
                arms=["scratch", {"source": "s" * 60, "recipes": ["frozenEncoder"], "encoder_only": True}],
                training={"epochs": 1000, "iterations": 250},
                cases=[100000],
            ),
            "targets",
            "file names would be too long",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, change: Change, key: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, change)
    with pytest.raises(StudyError, match=message) as caught:
        read_study(file)
    text = str(caught.value)
    assert "\n" not in text
    if key:
        number = int(text.split("line ")[1].split(":")[0])
        assert key in file.read_text().splitlines()[number - 1]
    assert main(["study", "check", str(file)]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n- b\n", "must be a mapping"),
        ("name: [a\n", "invalid YAML"),
        ("name: a\nname: b\n", "line 2: name is given twice"),
        ("name: !!python/object/apply:os.system ['true']\n", "invalid YAML"),
        ("a: &x\n  b: *x\n", "refers to itself|unknown key"),
        ("\x00", "invalid YAML"),
        (
            "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopqrst")),
            "fewer aliases",
        ),
    ],
)
def test_hostile_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=message):
        read_study(file)


@pytest.mark.parametrize("kind", ["datasets", "targets", "sources", "name"])
def test_a_line_break_enters_no_name(tmp_path: Path, kind: str) -> None:
    """A pattern's `$` matches before a last line break; names become words of a shell's line."""

    def change(content: dict[str, Any]) -> None:
        if kind == "name":
            content["name"] += "\n"
        else:
            content[kind] = {f"{name}\n": entry for name, entry in content[kind].items()}

    with pytest.raises(StudyError, match="letters, digits and '_' only"):
        read_study(write_study(tmp_path, change))


def test_mirroring_is_left_out_where_sides_matter(tmp_path: Path) -> None:
    file = write_study(tmp_path, set_("training", "mirroring", to=False))
    study = read_study(file)
    assert all(arm.trainer.no_mirroring for arm in study.arms)
    assert "_noMirroring" not in str(study.sources["t1_segmentation"].trainer)
    write_study(tmp_path, set_("sources", "t1_segmentation", "mirroring", to=False))
    study = read_study(file)
    assert "_noMirroring" in str(study.sources["t1_segmentation"].trainer)
    assert not any(arm.trainer.no_mirroring for arm in study.arms)


def test_job_names_are_quoted(tmp_path: Path) -> None:
    assert "{wildcards.job:q} >> {log:q}" in Workflow(quote(str(write_study(tmp_path)))).command


def test_a_home_folder_that_nobody_has(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no user ~nobody_of_this_name"):
        read_study(write_study(tmp_path, lambda content: content.update(folder="~nobody_of_this_name/x")))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="study init"):
        read_study(tmp_path / "no.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(StudyError, match="not a text file"):
        read_study(tmp_path / "binary.yaml")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(sorted(schema()["properties"])), value=_VALUES)
def test_any_value_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    file = write_study(tmp_path_factory.mktemp("study"), set_(key, to=value))
    problem = ""
    try:
        study_jobs(read_study(file))
    except StudyError as error:
        problem = str(error)
    assert "\n" not in problem


def jobs_of(folder: Path, change: Change | None = None) -> dict[str, str]:
    """Return the digests of the small study's jobs, changed."""
    return {name: job.digest for name, job in study_jobs(read_study(write_study(folder, change))).items()}


def test_a_study_converts_with_every_option_of_convert() -> None:
    entries = next(
        node
        for node in _nodes(schema())
        if {"geometry", "group_by"} <= set(node.get("properties", {}))  # those of a data set's options
    )["properties"]
    # of those, a study decides itself where files may be replaced and how many run at a time
    own = {f.name for f in fields(Options)} - {"processes", "overwrite", "dataset_options"} | {"settings"}
    assert set(entries) == own
    assert tuple(entries["geometry"]["enum"]) == POLICIES
    choices = {a.dest: a.choices for a in command_parser("convert")._actions}
    assert (tuple(choices["geometry"]), tuple(choices["group_by"])) == (POLICIES, tuple(entries["group_by"]["enum"]))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(child)


def test_jobs_come_after_what_they_need(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["sources"]["other"] = {"pretrain": "t1", "task": "self_supervised"}
        content.update(recipes=["full", "warmup"], seeds=[0, 1], cases=["all", 3])

    study = read_study(write_study(tmp_path, change))
    jobs = study_jobs(study)
    seen: set[str] = set()
    for job in jobs.values():
        assert seen.issuperset(job.needs)
        seen.add(job.name)
    # three arms, two recipes, two numbers of cases, two seeds, two folds
    trainings = [job for job in jobs.values() if job.kind == "finetune"]
    assert len(trainings) == 3 * 2 * 2 * 2 * 2
    assert set(jobs["compare-stroke"].needs) == {job.name for job in trainings}
    named = jobs["finetune-stroke-nnUNetTrainerTransfer_full_3cases_1epochs_5iterations_seed1@other-f1"]
    assert set(named.needs) == {"preprocess-stroke", "pretrain-other", "link-stroke-other"}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (set_("seeds", to=[0]), []),
        (set_("resources", to={"finetune": {"cpus": 2}}), []),
        (set_("folders", to={"raw": "elsewhere"}), []),
        (set_("name", to="other"), ["report"]),
        (set_("comparison", to={"rope": 0.02}), ["compare", "report"]),
        (set_("targets", "stroke", "protocols", to=[]), ["compare", "report"]),
        (set_("sources", "t1_segmentation", "iterations", to=6), ["pretrain", "finetune-T1", "compare", "report"]),
        (set_("datasets", "t1", "seed", to=1), ["t1", "pretrain", "finetune-T1", "compare", "report"]),
        (set_("datasets", "stroke", "plans", to={"batch_size": 2}), ["plan-stroke", "preprocess-stroke", "finetune-*"]),
    ],
)
def test_a_change_reruns_what_depends_on_it_and_no_more(tmp_path: Path, change: Change, changed: list[str]) -> None:
    before, after = jobs_of(tmp_path), jobs_of(tmp_path, change)
    different = {name for name in before if before[name] != after.get(name)}
    expected = {
        "pretrain": {"pretrain-t1_segmentation"},
        "compare": {"compare-stroke"},
        "report": {"report"},
        "t1": {"convert-t1", "plan-t1", "preprocess-t1"},
        "plan-stroke": {"plan-stroke"},
        "preprocess-stroke": {"preprocess-stroke"},
        "finetune-T1": {name for name in before if name.startswith("finetune") and "T1Segmentation" in name},
        "finetune-*": {name for name in before if name.startswith(("finetune", "compare", "report"))},
    }
    assert different == set().union(*(expected[part] for part in changed))


def test_another_arm_changes_no_other_training(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["sources"]["t1_self_supervised"] = {"pretrain": "t1", "seed": 0}

    before, after = jobs_of(tmp_path), jobs_of(tmp_path, change)
    assert {name for name in before if before[name] != after[name]} == {"compare-stroke", "report"}


def test_a_study_moved_with_its_data_is_the_same(tmp_path: Path) -> None:
    digests = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        write_atlas_tree(tmp_path / place)
        file = tmp_path / place / "lab.py"
        file.write_text("LAB = 1\n")
        keys = tmp_path / place / "keys.txt"
        keys.write_text("a b\n")

        def change(content: dict[str, Any]) -> None:
            content["datasets"]["t1"] = {"id": 702, "converter": "lab.py", "path": "images"}
            content["datasets"]["stroke"] = {"id": 711, "converter": "atlas_r2", "path": "ATLAS_2"}
            details = {"task": "segmentation", "domain": "t1", "map": "keys.txt"}
            content["sources"]["mapped"] = {"checkpoint": "weights.pth", **details}

        digests.append(jobs_of(tmp_path / place, change))
    assert digests[0] == digests[1]
    # the map of a checkpoint's keys is part of what the result depends on
    keys.write_text("a c\n")
    after = {name: job.digest for name, job in study_jobs(read_study(tmp_path / "there/study.yaml")).items()}
    assert {name for name in after if after[name] != digests[1][name]} == {
        name for name in after if "mapped" in name or name.startswith(("compare", "report"))
    }
    keys.write_text("a b\n")
    # and so is a data set's own description
    file.write_text("LAB = 2\n")
    after = {name: job.digest for name, job in study_jobs(read_study(tmp_path / "there/study.yaml")).items()}
    assert {name for name in after if after[name] == digests[1][name]} == {
        name
        for name in after
        if "T1Segmentation" not in name and name.startswith(("finetune", "convert-s", "p", "add", "link"))
    } - {"plan-t1", "preprocess-t1", "pretrain-t1_segmentation"}
