"""The recipes by which others build this package: an image and a conda package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")
INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "USER", "VOLUME", "WORKDIR"}
#: names on the package index that conda gives another package
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    found = [re.fullmatch(r"([A-Z]+) (.+)", line) for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines()]
    assert all(found), "a line that is not an instruction"
    return [(match[1], match[2]) for match in found if match]


def test_the_dockerfile_has_known_instructions_in_an_order_that_works(dockerfile: list[tuple[str, str]]) -> None:
    names = [name for name, _ in dockerfile]
    assert set(names) <= INSTRUCTIONS
    assert names[:2] == ["ARG", "FROM"]
    assert dockerfile[1][1] == "${BASE}"
    # an argument is known from its declaration after FROM on
    for i, (_, text) in enumerate(dockerfile[2:], start=2):
        for used in re.findall(r"\$\{(\w+)\}", text):
            earlier = dockerfile[2:i]
            declared = {re.split("[= ]", value)[0] for name, value in earlier if name == "ARG"}
            declared |= {word.split("=")[0] for name, value in earlier if name == "ENV" for word in value.split()}
            assert used in declared, used


def test_the_image_takes_what_the_package_needs(dockerfile: list[tuple[str, str]]) -> None:
    copied = [word for name, text in dockerfile if name == "COPY" for word in text.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
    assert {"nnunet_transfer", "trainers", "dataset_conversion", "setup.py", "pyproject.toml"} <= set(copied)


def test_the_image_is_small_and_runs_as_nobody_special(dockerfile: list[tuple[str, str]]) -> None:
    for name, text in dockerfile:
        if "pip install" in text:
            assert text.count("pip install") == text.count("--no-cache-dir")
        if name in ("CMD", "ENTRYPOINT"):
            assert all(isinstance(word, str) for word in json.loads(text))
    last = {name: text for name, text in dockerfile}
    assert int(last["USER"]) > 0
    base = next(text for name, text in dockerfile if name == "ARG").partition("=")[2]
    assert re.fullmatch(r"[a-z]+:3\.1[1-3]-.+", base), "a base without a version changes by itself"


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if hadolint is None:
        pytest.skip("hadolint isn't installed: it comes with the extra lint on Linux")
    run = subprocess.run([hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, ""), run.stdout


def recipe() -> dict:
    text = (ROOT / ".ci" / "conda" / "meta.yaml").read_text(encoding="utf-8")
    known = {"PYTHON": "python", "pin_subpackage": lambda name, max_pin: name}
    return yaml.safe_load(jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render(known))


def test_the_conda_recipe_has_the_dependencies_of_the_setup() -> None:
    required = SETUP.split("install_requires=[")[1].split("],")[0]
    wanted = {
        CONDA_NAMES.get(name.lower(), name.lower()): bounds.replace(" ", "")
        for name, bounds in re.findall(r'"([A-Za-z0-9_.-]+)([^"]*)"', required)
    }
    python = re.findall(r'python_requires="([^"]+)"', SETUP)[0]
    described = recipe()["requirements"]
    run = dict((line + " ").split(" ", 1) for line in described["run"])
    assert {name: bounds.strip() for name, bounds in run.items()} == {**wanted, "python": python}
    assert f"python {python}" in described["host"]


def test_the_conda_recipe_says_what_the_setup_says() -> None:
    found = recipe()
    version = re.findall(r'__version__ = "(.+)"', (ROOT / "nnunet_transfer" / "__init__.py").read_text())[0]
    assert found["package"] == {"name": "nnunet_transfer", "version": version}
    assert found["build"]["entry_points"][0].replace(" ", "") in SETUP
    assert f'description="{found["about"]["summary"]}"' in SETUP
    assert found["about"]["license"] == re.findall(r'license="(.+)"', SETUP)[0]
    assert (ROOT / ".ci" / "conda" / found["source"]["path"]).resolve() == ROOT
