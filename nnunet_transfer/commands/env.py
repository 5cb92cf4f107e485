"""Print the shell line that makes nnU-Net find the trainers.

  sh, bash, zsh   eval "$(nnunet_transfer env)"
  csh, tcsh       eval `nnunet_transfer env --shell csh`
  fish            nnunet_transfer env --shell fish | source
  PowerShell      nnunet_transfer env --shell powershell | Invoke-Expression

It puts one folder first in nnUNet_extTrainer and keeps the folders you have set there.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable

from nnunet_transfer.discovery import VARIABLE, search_path


def _quote_csh(text: str) -> str:
    # csh expands ! within quotes, too
    return shlex.quote(text).replace("!", "\\!")


def _quote_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quote_powershell(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


#: shell -> (how it sets a variable, how it quotes)
SHELLS: dict[str, tuple[str, Callable[[str], str]]] = {
    "sh": ("export {}={}", shlex.quote),
    "csh": ("setenv {} {}", _quote_csh),
    "fish": ("set -gx {} {}", _quote_fish),
    "powershell": ("$env:{} = {}", _quote_powershell),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option of `env`."""
    parser.add_argument(
        "--shell", choices=SHELLS, default="sh", help="shell whose syntax to print (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the line on stdout."""
    line, quote = SHELLS[args.shell]
    print(line.format(VARIABLE, quote(search_path(os.environ.get(VARIABLE, "")))))
    return 0
