"""Convert one 3D case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.conversion import geometry
from nnunet_transfer.conversion.case_labels import measure_label, put_label_on_grid, read_label
from nnunet_transfer.conversion.description import Case, Pixels
from nnunet_transfer.conversion.job import Findings, Job, content_key, make_record, put_file
from nnunet_transfer.conversion.labels import refuse_whole_brain
from nnunet_transfer.conversion.read_back import content_fault, header_fault, same_place, stored_fault, voxel_fault
from nnunet_transfer.conversion.record import Record
from nnunet_transfer.conversion.spatial_images import SpatialImage, Written, write_image
from nnunet_transfer.errors import DataError
from nnunet_transfer.words import counted


def convert_volumes(case: Case, job: Job, state: str) -> Record:
    """Write the images and the label of a case.

    Raises
    ------
    DataError
        If the case can't be converted; its files are then removed.
    """
    findings = Findings(actions=list(case.notes))
    with findings.removing_files(job.out):
        _convert(case, job, findings)
    findings.put_in_order_of(case.files())
    return make_record(case, job, state, findings)


@dataclass(frozen=True)
class _Grid:
    """The common grid of all files of a case.

    Attributes
    ----------
    source : what it is the grid of, for messages
    """

    shape: tuple[int, ...]
    affine: geometry.Affine
    source: str


def _convert(case: Case, job: Job, findings: Findings) -> None:
    masks = tuple(tuple(map(file_of, files)) for files in case.masks)
    label = read_label(masks, case.combine, job, findings)
    grid = _Grid(label.data.shape, label.affine, "label") if label and job.geometry == "resample-image" else None
    folder = "Tr" if case.split == "train" else "Ts"
    content = 0
    for number, path in enumerate(map(file_of, case.images.values())):
        image = findings.read(path)
        if label and image.sha256 in findings.mask_sha256:
            raise DataError(f"{path.name} is the mask and the image: the same file")
        if number == 0:
            _measure_image(image, findings)
        lowest = _check_values(image, path.name, findings)
        grid = grid or _Grid(image.data.shape, image.affine, "first image")
        _put_image_on_grid(image, grid, label, path.name, job, findings)
        if number == 0:
            findings.measured["shape"] = tuple(image.data.shape)
            if job.rule.foreground:
                label = SpatialImage((image.data != 0).view(np.uint8), image.affine, "", "")
            elif label and job.rule.one_structure:
                content = int(np.count_nonzero(image.data > lowest))
        _write_image(image, path, f"images{folder}/{case.name}_{number:04d}.nii.gz", job, findings)
    if label and grid:
        put_label_on_grid(label, grid.shape, grid.affine, job, findings)
        measure_label(label, job.rule, findings)
        if job.rule.one_structure:
            voxel_ml = float(np.prod(geometry.spacing(label.affine))) / 1000
            refuse_whole_brain(int(np.count_nonzero(label.data == 1)), voxel_ml, content, job.rule.largest_share)
        _write_label(label, f"labels{folder}/{case.name}.nii.gz", job, findings)


def file_of(item: Path | Pixels) -> Path:
    """Return the file of an image or mask; volumes are always files."""
    if not isinstance(item, Path):
        raise DataError(f"{item.path} is not a volume; descriptions of volumes must name files")
    return item


def _measure_image(image: SpatialImage, findings: Findings) -> None:
    findings.measured["orientation"] = geometry.orientation(image.affine)
    findings.measured["spacing"] = tuple(np.round(geometry.spacing(image.affine), 4).tolist())
    findings.measured["content"] = content_key(image.data)


def _check_values(image: SpatialImage, name: str, findings: Findings) -> Any:
    """Refuse a constant image and replace NaN; return the smallest value."""
    low, high = image.data.min(), image.data.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = ~np.isfinite(image.data)
        image.data = np.where(bad, image.data.dtype.type(0), image.data)
        image.intact = False
        what = counted(int(bad.sum()), "voxel that isn't a finite number", "voxels that aren't finite numbers")
        findings.warn(f"{name}: {what} set to 0")
        low, high = image.data.min(), image.data.max()
    if low == high:
        raise DataError(f"{name} is empty: all voxels are {low:g}")
    return low


def _put_image_on_grid(
    image: SpatialImage, grid: _Grid, label: SpatialImage | None, name: str, job: Job, findings: Findings
) -> None:
    reason = geometry.describe_mismatch(grid.shape, grid.affine, image.data.shape, image.affine)
    if not reason:
        _share_header(image, grid, name, findings)
        return
    if job.geometry != "resample-image":
        raise DataError(
            f"{name} is not on the grid of the first image: {reason}; "
            f"{job.hint or 'take --geometry resample-image if that is meant'}"
        )
    if label and (outside := _labelled_outside(label, image, grid)):
        findings.warn(
            f"{name}: {outside} of {np.count_nonzero(label.data)} labelled voxels lie outside the image, which is 0 there"
        )
    image.data = geometry.resample(image.data, image.affine, grid.shape, grid.affine)
    image.affine = grid.affine
    image.intact = False
    findings.actions.append(f"{name}: resampled (linear), was {reason}")
    if image.data.min() == image.data.max():
        raise DataError(f"{name} shows nothing on the label's grid: they don't overlap")


def _labelled_outside(label: SpatialImage, image: SpatialImage, grid: _Grid) -> int:
    """Return the number of voxels of a label on the grid that the image doesn't cover."""
    if label.data.shape != grid.shape:  # the label of a rule without masks is made from the first image
        return 0
    inside = geometry.covered(image.data.shape, image.affine, grid.shape, grid.affine)
    return int(np.count_nonzero(label.data[~inside]))


def _share_header(image: SpatialImage, grid: _Grid, name: str, findings: Findings) -> None:
    """Give an image on the grid the grid's affine: nnU-Net stops at smaller differences of spacing than are tolerated here."""
    if geometry.same_header(grid.shape, grid.affine, image.affine):
        return
    distance = geometry.displacement(grid.shape, grid.affine, image.affine)
    findings.actions.append(f"{name}: header of the {grid.source} taken, which moves voxels by up to {distance:.2g} mm")
    image.affine = grid.affine
    image.intact = False


def _write_image(image: SpatialImage, path: Path, name: str, job: Job, findings: Findings) -> None:
    turned = _reoriented(image, job, findings, path.name)
    findings.measured.setdefault("written_orientation", geometry.orientation(image.affine))
    target, first = job.out / name, _first_written(job, findings)
    findings.files.append(name)
    if image.intact and not turned:
        put_file(path, target, job.link, image.checksum)
        fault = header_fault(target, image.data.shape, image.affine, image.data.dtype)
        if not (fault or image.usual):
            fault = voxel_fault(target, image.data)
        if fault:
            findings.warn(f"{path.name}: written with a new header, as {fault}")
        elif first is None or same_place(target, first):
            return
        else:
            findings.actions.append(f"{path.name}: header of the first image taken, from which it differs by rounding")
    _write(image.data, image.affine, target, first, stored_fault)


def _first_written(job: Job, findings: Findings) -> Path | None:
    """Return the first file written of a case, whose place all others get: headers may contradict themselves a little."""
    return job.out / findings.files[0] if findings.files else None


def _write(
    data: NDArray[Any],
    affine: geometry.Affine,
    target: Path,
    like: Path | None,
    find_fault: Callable[[Path, Written], str],
) -> None:
    written = write_image(data, affine, target, like)
    if fault := header_fault(target, data.shape, affine, data.dtype) or find_fault(target, written):
        raise DataError(f"{target.name} can't be written as nnU-Net reads it: {fault}")


def _write_label(label: SpatialImage, name: str, job: Job, findings: Findings) -> None:
    _reoriented(label, job, findings, "label")
    first = _first_written(job, findings)
    findings.files.append(name)
    # labels are small and critical, so also check their decompressed content
    _write(label.data, label.affine, job.out / name, first, content_fault)


def _reoriented(image: SpatialImage, job: Job, findings: Findings, name: str) -> bool:
    before = geometry.orientation(image.affine)
    if not job.reorient or before == job.reorient:
        return False
    image.data, image.affine = geometry.reorient(image.data, image.affine, job.reorient)
    findings.actions.append(f"{name}: reoriented from {before} to {job.reorient}")
    return True
