"""Draw the README's picture from the demo's report: python docs/images/picture.py nnunet_transfer_demo

The picture is the report's verdict as a browser shows it; chromium must be installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

PICTURE = Path(__file__).with_name("report.png")
#: pixels: of the window, and of the picture at most
WIDTH, WINDOW, HEIGHT = 1100, 3000, 1300
MARGIN = 16
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Draw the picture of a demo's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="the folder of `nnunet_transfer demo --output`")
    parser.add_argument("--out", type=Path, default=PICTURE, help="(%(default)s)")
    arguments = parser.parse_args()
    report = arguments.demo.resolve() / "report" / "report.html"
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or not report.is_file():
        sys.exit(f"there is no {report if browser else BROWSERS[0]}")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        # a browser run by root refuses its own sandbox
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        options = [f"--screenshot={shot}", f"--window-size={WIDTH},{WINDOW}", "--hide-scrollbars"]
        subprocess.run([browser, "--headless", *sandbox, *options, f"{report.as_uri()}#verdict"], check=True)
        with Image.open(shot) as image:
            from_verdict(image.convert("RGB")).save(arguments.out, optimize=True)


def from_verdict(shot: Image.Image) -> Image.Image:
    """Return what a browser that jumped to the verdict shows: it leaves blank what stands above."""
    box = ImageChops.difference(shot, Image.new("RGB", shot.size, shot.getpixel((0, 0)))).getbbox()
    top, bottom = (box[1], box[3]) if box else (0, shot.height)
    return shot.crop((0, max(0, top - MARGIN), shot.width, min(shot.height, bottom + MARGIN, top + HEIGHT)))


if __name__ == "__main__":
    main()
