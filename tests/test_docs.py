"""What README and docs tell people to type is what the program understands."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_transfer import api
from nnunet_transfer.cli import COMMANDS, command_parser
from nnunet_transfer.commands import compare
from nnunet_transfer.comparison.analysis import TABLES
from nnunet_transfer.comparison.pipeline import CONSENSUS
from nnunet_transfer.naming import ARMS, GRAMMAR, TRANSFER, is_ours, parse_trainer_name
from nnunet_transfer.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
TRAINER = re.compile(r"\bnnUNet(?:Trainer|Pretrainer)\w*")


def _commands(page: Path) -> Iterator[str]:
    """Give the lines of all fenced blocks in bash that run this package's command."""
    for block in re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ").removesuffix(" &&")
            if line.startswith("nnunet_transfer "):
                yield line


SHOWN = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in _commands(page)]


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_every_command_shown_is_understood(page: str, line: str) -> None:
    _, command, *arguments = shlex.split(line, comments=True)
    assert command in COMMANDS
    command_parser(command).parse_args(arguments)


def test_the_readme_shows_commands() -> None:
    assert {"sources", "plan", "compare"} <= {line.split()[1] for page, line in SHOWN if page == "README.md"}


def test_the_check_sees_a_wrong_option() -> None:
    with pytest.raises(SystemExit):
        command_parser("plan").parse_args(["--no-such-option"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_trainer_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in TRAINER.findall(text):
        if f"{name.split('_')[0]} = " in text:  # the page shows how to add it
            continue
        if is_ours(name.rstrip("_")):
            parse_trainer_name(name.rstrip("_"))
        else:
            assert name in ("nnUNetTrainer", "nnUNetPretrainer"), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_linked_files_exist(page: Path) -> None:
    # pictures have an exclamation mark before their bracket and are looked at, not counted
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_lists_all_arms_and_recipes() -> None:
    for name, source in ARMS.items():
        start = "random weights" if source is None else f"source `{source}`"
        assert f"| `{name}` | {start}" in README
    assert f"| `{TRANSFER}` |" in README
    for recipe in RECIPES.values():
        summary = recipe.summary.removesuffix(" (default)")
        default = " (default)" if summary != recipe.summary else ""
        assert f"| `_{recipe.name}`{default} | {summary} |" in README
    assert GRAMMAR in README


def test_the_page_on_sources_names_all_rules_and_kinds_of_addresses() -> None:
    from dataclasses import fields

    from nnunet_transfer.adaptation import rules
    from nnunet_transfer.adaptation.settings import MINIMUM
    from nnunet_transfer.adaptation.steps import AdaptationRules
    from nnunet_transfer.checkpoints.downloads import SCHEMES

    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    values = (
        rules.INPUT_CHANNEL_RULES,
        rules.NEW_CHANNEL_RULES,
        rules.INFLATION_RULES,
        rules.KERNEL_RULES,
        rules.WIDTH_RULES,
    )
    for names, rule in zip(values, fields(AdaptationRules), strict=True):
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{rule.name}` |")]
        assert all(f"`{name}`" in line for name in names)
        assert line.split("| ")[2].startswith(f"`{rule.default}`")
    assert f"| `{MINIMUM}` |" in page
    assert all(f"{scheme}://" in page for scheme in SCHEMES if scheme != "http")


def test_every_table_of_a_comparison_is_named() -> None:
    tables = {*TABLES, Path(CONSENSUS).stem}
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert {name for name in re.findall(r"^\| `(\w+)\.csv` \|", page, re.M)} == tables
    assert tables <= set(re.findall(r"\w+", compare.__doc__ or ""))


def test_the_page_on_python_names_every_function() -> None:
    # the repository shows it without what the site adds
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition(":::")[0]
    functions = {name for name in api.__all__ if inspect.isfunction(getattr(api, name))}
    assert functions == set(re.findall(r"`([a-z_]+)`", page))
    assert all(name in api.__all__ for name in re.findall(r"nt\.(\w+)", page))


def test_the_two_commands_come_first() -> None:
    assert README.index("make demo") < README.index("make test") < README.index("## What you get")


def test_every_dependency_has_a_reason() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    required = re.search(r"install_requires=\[(.*?)\]", text, re.S)
    assert required is not None
    reasons = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for package in re.findall(r'"([A-Za-z0-9_.-]+)', required[1]):
        assert re.search(rf"^\|[^|]*\b{re.escape(package)}\b", reasons, re.M), package


def test_the_folder_map_names_what_is_there() -> None:
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
    for entry in (ROOT / "nnunet_transfer").iterdir():
        if entry.name.startswith("__") or entry.suffix not in ("", ".py"):
            continue
        assert f"{entry.name}/" in text or entry.name in text, entry.name
    text += (ROOT / "docs" / "changing.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:nnunet_transfer/|tests/|trainers/)?[\w]+/[\w]+\.py)`", text):
        assert (ROOT / path).exists() or (ROOT / "nnunet_transfer" / path).exists(), path
