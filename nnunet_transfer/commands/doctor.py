"""Check the installation, nnU-Net's folders and the sources; say how to fix what is wrong.

One line per check: ok, warn (something will not work, or slowly) or fail. The exit status is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from nnunet_transfer.doctor import State, examine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the findings, each as soon as it is known; return 1 if a check failed."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not args.json:
            print(finding, flush=True)
    if args.json:
        print(json.dumps([asdict(f) for f in findings], indent=2, ensure_ascii=False))
    return 1 if any(f.state is State.FAIL for f in findings) else 0
