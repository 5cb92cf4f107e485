"""Interactive pages to view a case slice by slice with NiiVue (https://niivue.com), which the user provides.

Browsers don't let a local page read other files, so each page contains the volumes of its case.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from nnunet_transfer.comparison.pages import render, style
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.files import atomic_path, write_text

#: folder beside the report
FOLDER = "viewer"
SCRIPT = "niivue.js"
#: endings of files that NiiVue reads
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mgz", ".mgh")
#: global name that the build for pages without modules defines
_GLOBAL = b".niivue={}"
_WHERE = "give dist/niivue.umd.js of the npm package @niivue/niivue (`npm pack @niivue/niivue`, then unpack it)"


def niivue_script(path: str | PathLike[str]) -> Path:
    """Return the path of NiiVue's script.

    Raises
    ------
    ComparisonError
        If the file isn't NiiVue's build for pages without modules.
    """
    script = Path(path)
    if not script.is_file():
        raise ComparisonError(f"{script} is not a file; {_WHERE}")
    if _GLOBAL not in script.read_bytes():
        raise ComparisonError(f"{script} is not niivue for use in a page; {_WHERE}")
    return script


def place_script(script: Path, folder: Path) -> None:
    """Copy NiiVue to the folder of the pages."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / FOLDER / SCRIPT) as temporary:
        shutil.copyfile(script, temporary)


def write_viewer(
    case: str, key: str, reference: Path, image: Path | None, predictions: Mapping[str, Path], folder: Path, name: str
) -> str:
    """Write the page of a case; return its address relative to the report, empty if NiiVue can't read the files.

    Parameters
    ----------
    key : anchor of the case in the report
    predictions : title of an arm -> its mask
    folder : folder of the report
    name : file name of the page, without ending
    """
    files = [reference, *predictions.values(), *([image] if image else [])]
    if not all(file.name.endswith(ENDINGS) for file in files):
        return ""
    address = f"{FOLDER}/{name}.html"
    page = render(
        "viewer.html",
        case=case,
        key=key,
        script=SCRIPT,
        image=_inlined(image) if image else None,
        reference=_inlined(reference),
        predictions={title: _inlined(file) for title, file in predictions.items()},
        style=style(),
    )
    write_text(folder / address, page)
    return address


def _inlined(file: Path) -> dict[str, str]:
    return {"name": file.name, "base64": base64.b64encode(file.read_bytes()).decode()}
