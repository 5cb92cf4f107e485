"""The package of docs/extending.md: its files, written and installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXTENDING = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
#: code blocks that belong into a file: its path -> its content
FILES: dict[str, str] = {
    place: code
    for code, place in re.findall(r"^```(?:python|toml)\n(# in (\S+\.(?:py|toml))\n.*?)^```", EXTENDING, re.M | re.S)
}


def install(folder: Path) -> Path:
    """Write the package's files and install it below `folder`; return the folder for `sys.path`."""
    source, target = folder / "source", folder / "installed"
    for place, code in FILES.items():
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        (source / place).write_text(code, encoding="utf-8")
    (source / "lab" / "__init__.py").touch()
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    subprocess.run([*pip, str(source)], check=True)
    return target
