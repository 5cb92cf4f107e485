"""Files around the code: the site, the continuous integration, what is installed for it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")


def test_only_texts_and_pictures_are_under_version_control() -> None:
    """A model or a data set that a command wrote into the checkout, or a file of private data, would be published with it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    files = [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    assert files
    assert [str(f) for f in files if f.suffix != ".png" and b"\0" in f.read_bytes()] == []
    assert [str(f) for f in files if f.name == "dataset.json" or f.name.startswith("plans.")] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    text = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("convert", "add_source", "transfer_weights", "run_study", "register_arm"):
        assert f"nnunet_transfer.api.{name}" in text
    assert (tmp_path / "index.html").is_file()


def test_the_oldest_dependencies_are_those_of_the_setup() -> None:
    required = SETUP.split("install_requires")[1].split("extras_require")[0]
    lower = dict(re.findall(r'"([A-Za-z0-9_.-]+)>=([0-9.]+)', required))
    lines = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert {name: bound.removesuffix(".*") for name, bound in (line.split("==") for line in lines)} == lower


def test_the_hosted_tests_cover_the_pythons_that_are_allowed() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["fast"]["strategy"]["matrix"]
    low, high = re.findall(r'python_requires=">=3\.(\d+),<3\.(\d+)"', SETUP)[0]
    assert matrix["python"] == [f"3.{minor}" for minor in range(int(low), int(high))]
    assert {row["dependencies"] for row in matrix["include"]} == {"oldest", "prerelease"}
    assert "bash .ci/run" in [step.get("run") for step in workflow["jobs"]["whole"]["steps"]]
    assert f"(3, {low}) <= sys" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_hook_runs_a_tool_that_is_installed_for_it() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    lint = SETUP.split('"lint": [')[1].split("]")[0]
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        assert f'"{hook["entry"].split()[0]}' in lint


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower().replace("_", "-")
    for name in re.findall(r'"([A-Za-z0-9_.-]+)(?:\[[a-z]+\])?[><]', SETUP.split("install_requires")[1]):
        assert name.lower().replace("_", "-") in reasons, name
