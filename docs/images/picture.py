"""Draw the README's picture from the demo's report: python docs/images/picture.py nnunet_transfer_demo

The picture is the report's verdict, with its figure, as a browser shows it; chromium must be installed.
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
#: pixels of the window
WIDTH, WINDOW = 1100, 3000
MARGIN = 16
#: the picture has nothing but the verdict, and ends with its figure
SHOWN = "<style>#verdict > figure ~ *, main > :not(#verdict), body > :not(main) { display: none }</style>"
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
        shot, page = Path(folder) / "shot.png", Path(folder) / "page.html"
        head = f'<base href="{report.parent.as_uri()}/">{SHOWN}</head>'
        page.write_text(report.read_text(encoding="utf-8").replace("</head>", head, 1), encoding="utf-8")
        # a browser run by root refuses its own sandbox
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        options = [f"--screenshot={shot}", f"--window-size={WIDTH},{WINDOW}", "--hide-scrollbars"]
        subprocess.run([browser, "--headless", *sandbox, *options, page.as_uri()], check=True)
        with Image.open(shot) as image:
            trimmed(image.convert("RGB")).save(arguments.out, optimize=True)


def trimmed(shot: Image.Image) -> Image.Image:
    """Return the picture without the blank below."""
    box = ImageChops.difference(shot, Image.new("RGB", shot.size, shot.getpixel((0, 0)))).getbbox()
    return shot.crop((0, 0, shot.width, min(shot.height, (box[3] if box else 0) + MARGIN)))


if __name__ == "__main__":
    main()
