"""axe-core, the usual checker of accessible pages, in a headless Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

#: findings of these kinds keep somebody from reading a page
SERIOUS = ("serious", "critical")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_RUN = """
<script>
for (const details of document.querySelectorAll("details")) details.open = true;
axe.run(document, {resultTypes: ["violations"]}).then((found) => {
  const out = document.createElement("pre");
  out.id = "axe-findings";
  out.textContent = JSON.stringify(found.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html.slice(0, 200))]));
  document.body.append(out);
});
</script>
"""


def browser() -> str:
    """Return a Chromium; skip the test where there is none."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(_BROWSERS)} is installed")
    return found


def axe_script(folder: Path) -> str:
    """Return axe-core's source from the npm registry; skip the test where it can't be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("axe-core comes from npm, which isn't installed")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), "axe-core@4"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("npm doesn't get axe-core: no answer")
    if run.returncode:
        pytest.skip(f"npm doesn't get axe-core: {(run.stderr.strip().splitlines() or ['no reason given'])[0]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def findings(page: Path, script: str, folder: Path, *, dark: bool = False) -> list[tuple[str, str, list[str]]]:
    """Return what axe-core finds on a page with everything opened: impact, rule, elements.

    Parameters
    ----------
    folder : for a copy of the page, and the browser's own files
    dark : as for a user who prefers dark pages
    """
    text = page.read_text(encoding="utf-8")
    copy = folder / f"page{'_dark' if dark else ''}.html"
    copy.write_text(text.replace("</body>", f"<script>{script}</script>{_RUN}</body>"), encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}"]
    flags += ["--virtual-time-budget=60000", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    run = subprocess.run(
        [browser(), *flags, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=600, check=False
    )
    found = re.search(r'<pre id="axe-findings">(.*?)</pre>', run.stdout, re.S)
    assert found is not None, f"axe-core said nothing: {run.stderr[-500:]}"
    content: list[Any] = json.loads(html.unescape(found[1]))
    return [(impact, rule, nodes) for impact, rule, nodes in content]
