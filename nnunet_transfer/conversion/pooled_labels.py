"""Rewrite a label file with other values in the same format."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from nnunet_transfer.conversion.labels import with_values
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import atomic_path


def write_label(source: Path, target: Path, values: dict[int, int]) -> None:
    """Write a label with the values of `source` replaced according to a table; the grid is unchanged.

    Raises
    ------
    DataError
        If the file can't be read, is in colour, or has a value that isn't in the table.
    """
    try:
        image = sitk.ReadImage(str(source))
    except RuntimeError:
        raise DataError(f"{source} can't be read as an image; restore it or remove its case") from None
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise DataError(f"{source} is in colour; a label has one value per voxel")
    label = sitk.GetImageFromArray(with_values(sitk.GetArrayFromImage(image), values, str(source)))
    label.CopyInformation(image)
    with atomic_path(target) as temporary:
        sitk.WriteImage(label, str(temporary), useCompression=True)
