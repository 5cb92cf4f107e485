"""Pages of the site that lie outside docs/: README, contributing, changes, upgrading; links are made to fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
#: file at the top level -> its page
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "UPGRADING.md": "upgrading.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_page_markdown(markdown: str, config: MkDocsConfig, **_: Any) -> str:
    """Point links to files at the top level to their pages, or to the repository."""
    for source, page in PAGES.items():
        markdown = re.sub(rf"\]\((?:\.\./)*{re.escape(source)}", f"]({page}", markdown)
    elsewhere = r"\]\((?:\.\./)*((?:CITATION|LICENSE|examples|tests|trainers|nnunet_transfer/)[^)]*)\)"
    return re.sub(elsewhere, rf"]({config.repo_url}/blob/main/\1)", markdown)
