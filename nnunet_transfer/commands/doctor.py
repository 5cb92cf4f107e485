"""Check the installation, nnU-Net's folders and the sources; say how to fix what is wrong.

Example:
  nnunet_transfer doctor study.yaml

One line per check: ok, warn (something won't work, or is slow) or fail. The exit status is 1 if a check failed.
With a study file it also says what would stop that study, and whether the disk is large enough for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from nnunet_transfer.api import check_study
from nnunet_transfer.commands.actions import given_path
from nnunet_transfer.doctor import Finding, State, examine
from nnunet_transfer.errors import TransferError
from nnunet_transfer.files import printable_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    parser.add_argument("study", nargs="?", type=given_path, metavar="FILE", help="study file to check as well")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the findings, each as soon as it is known; return 1 if a check failed."""
    findings = []
    for finding in chain(examine(), _study_findings(args.study) if args.study else ()):
        findings.append(finding)
        if not args.json:
            print(finding, flush=True)
    if args.json:
        print(printable_json([asdict(f) for f in findings]))
    return 1 if any(f.state is State.FAIL for f in findings) else 0


def _study_findings(file: Path) -> Iterator[Finding]:
    try:
        check = check_study(file)
    except TransferError as error:
        yield Finding("study", State.FAIL, str(error))
        return
    for finding in check.findings:
        yield Finding("study", State.FAIL if finding.stops else State.WARN, finding.text)
    yield Finding("study", State.OK, f"{file}: about {sum(check.expected.gigabytes.values()):,.1f} GB will be written")
