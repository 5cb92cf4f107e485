"""What nnU-Net reads is what was meant: random NIfTI headers, judged by nibabel, SimpleITK and nnU-Net's own check."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import logging
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnunet_transfer.conversion.case_volumes import convert_volumes
from nnunet_transfer.conversion.checksums import crc32_of, crc32_of_content
from nnunet_transfer.conversion.description import LESION, Case
from nnunet_transfer.conversion.job import Job
from nnunet_transfer.conversion.spatial_images import read_image
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import atomic_path
from tests.conversion_trees import AFFINE, box, image, save
from tests.test_conversion_geometry import affines, places

# nibabel reports every odd header that it loads
logging.getLogger("nibabel.global").setLevel(logging.ERROR)

MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
DTYPES = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64)


@st.composite
def headers(draw: st.DrawFn) -> dict[str, Any]:
    """Draw fields of a NIfTI-1 header in which readers may differ, in wild combinations."""
    odd = st.sampled_from([0.0, 1.0, 2.0, np.nan, np.inf, -1.0, 0.5, -1024.0])
    return {
        "scl_slope": draw(odd),
        "scl_inter": draw(odd),
        "xyzt_units": draw(st.sampled_from([0, 1, 2, 3, 4, 7, 10, 26])),
        "sform_code": draw(st.sampled_from([0, 1, 2, 4, 5, 9])),
        "qform_code": draw(st.sampled_from([0, 1, 2, 4, 5, 9])),
        "pixdim_factor": [draw(st.sampled_from([1.0, 1.0, 1.0, 2.0, 1.0001, -1.0, 0.0])) for _ in range(3)],
        "qfac": draw(st.sampled_from([-1.0, 1.0, 0.0])),
        "dtype": draw(st.sampled_from(DTYPES)),
        "big_endian": draw(st.booleans()),
        "extension": draw(st.sampled_from([0, 16, 48])),
        "members": draw(st.sampled_from([1, 1, 2, 3])),
    }


def write(path: Path, data: NDArray[Any], affine: NDArray[np.float64], fields: dict[str, Any]) -> None:
    """Write voxels below a header with these fields, byte by byte, in one or several gzip streams."""
    header = nib.Nifti1Header(endianness=">" if fields["big_endian"] else "<")
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header["pixdim"][1:4] *= np.array(fields["pixdim_factor"], np.float32)
    header["pixdim"][0] = fields["qfac"]
    for key in ("scl_slope", "scl_inter", "xyzt_units", "sform_code", "qform_code"):
        header[key] = fields[key]
    header["vox_offset"], header["magic"] = 352 + fields["extension"], b"n+1\0"
    voxels = data.astype(header.get_data_dtype()).tobytes(order="F")
    plain = header.binaryblock + b"\0\0\0\0" + bytes(fields["extension"]) + voxels
    step = -(-len(plain) // fields["members"])
    path.write_bytes(b"".join(gzip.compress(plain[i : i + step]) for i in range(0, len(plain), step)))


def convert(folder: Path, image_path: Path, mask_path: Path) -> Any:
    """Convert one case; return its record."""
    job = Job(folder, folder, replace(LESION, largest_share=1), geometry="copy-from-image")
    return convert_volumes(Case("c", {"T1": image_path}, ((mask_path,),)), job, "")


def assert_itk_agrees(path: Path, read: sitk.Image) -> None:
    """Compare ITK's own reader with SimpleITK's where it is installed (`pip install itk-io`, 600 MB)."""
    if not importlib.util.find_spec("itk"):
        return
    import itk

    other = itk.imread(str(path), itk.F)  # its package has few other types
    np.testing.assert_array_equal(itk.array_from_image(other), sitk.GetArrayViewFromImage(read).astype(np.float32))
    assert tuple(other.GetSpacing()) == read.GetSpacing()
    assert tuple(other.GetOrigin()) == read.GetOrigin()
    np.testing.assert_array_equal(itk.array_from_matrix(other.GetDirection()), np.reshape(read.GetDirection(), (3, 3)))


@given(headers(), affines(), st.integers(0, 2**32 - 1))
@settings(max_examples=120, deadline=None)
def test_every_reader_reads_what_was_converted_or_the_case_is_refused(
    fields: dict[str, Any], affine: NDArray[np.float64], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 100, (4, 5, 3)).astype(fields["dtype"])
    data[0, 0, 0], data[1, 0, 0] = 0, 101
    if fields["xyzt_units"] in (1, 3):  # numbers that make sense in this unit
        affine = affine.copy()
        affine[:3] /= MM[fields["xyzt_units"]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "i.nii.gz", data, affine, fields)
        save((data > 50).astype(np.uint8), folder / "m.nii.gz", AFFINE)
        refusal = ""
        try:
            held = read_image(folder / "i.nii.gz")
            convert(folder, folder / "i.nii.gz", folder / "m.nii.gz")
        except DataError as error:
            refusal = str(error)
        assert "\n" not in refusal
        if refusal:
            return
        judge = nib.load(folder / "i.nii.gz", mmap=False)
        written, label = folder / "imagesTr/c_0000.nii.gz", folder / "labelsTr/c.nii.gz"
        # nibabel judges the voxels as read, SimpleITK what was written, nnU-Net's reader is SimpleITK
        np.testing.assert_allclose(held.data, judge.get_fdata(), rtol=1e-6, atol=1e-3)
        np.testing.assert_allclose(
            held.affine[:3], judge.affine[:3] * MM.get(fields["xyzt_units"] & 7, 1.0), rtol=1e-5, atol=1e-3
        )
        read, label_read = sitk.ReadImage(str(written)), sitk.ReadImage(str(label))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read).T, held.data)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(label_read).T, data > 50)
        assert_itk_agrees(written, read)
        _, positions = places(written)
        index = np.argwhere(np.ones(held.data.shape))
        np.testing.assert_allclose(
            positions, index @ held.affine[:3, :3].T + held.affine[:3, 3], atol=0.02, err_msg=str(fields)
        )
        # as nnU-Net's verify_dataset_integrity compares an image with its label
        assert read.GetSize() == label_read.GetSize()
        np.testing.assert_allclose(read.GetSpacing(), label_read.GetSpacing())
        np.testing.assert_allclose(nib.load(written).affine, nib.load(label).affine, atol=0.02)


def header_of(path: Path, **fields: Any) -> None:
    """Change fields of a file's header."""
    plain = bytearray(gzip.decompress(path.read_bytes()))
    header = nib.Nifti1Header(bytes(plain[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    path.write_bytes(gzip.compress(header.binaryblock + bytes(plain[348:])))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"scl_slope": 0, "scl_inter": -1024}, "voxels used as stored"),
        ({"scl_slope": np.nan, "scl_inter": 3}, "voxels used as stored"),
        ({"pixdim": [1, 1, 1, 1, 1, 1, 1, 1]}, "transform taken"),
        ({"xyzt_units": 3}, "refused"),
        ({"xyzt_units": 1}, "refused"),
        ({"xyzt_units": 5}, "lengths read as mm"),
        ({"scl_slope": 1, "scl_inter": np.nan}, "refused"),
        ({"sform_code": 0, "qform_code": 0}, "doesn't state the orientation"),
    ],
)
def test_a_header_that_readers_understand_differently_is_named(
    fields: dict[str, Any], wanted: str, tmp_path: Path
) -> None:
    source, mask = save(image(), tmp_path / "i.nii.gz"), save(box(), tmp_path / "m.nii.gz")
    header_of(source, **fields)
    if wanted == "refused":
        with pytest.raises(DataError, match="correct its"):
            convert(tmp_path, source, mask)
        assert not list((tmp_path / "imagesTr").glob("*")) if (tmp_path / "imagesTr").is_dir() else True
        return
    assert any(wanted in action for action in convert(tmp_path, source, mask).actions)


def test_micrometres_become_millimetres(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[:3] *= 1000
    source = save(image(), tmp_path / "i.nii.gz", affine)
    mask = save(box(), tmp_path / "m.nii.gz", affine)
    for path in (source, mask):
        header_of(path, xyzt_units=3)
    found = convert(tmp_path, source, mask)
    assert found.lesion_ml == pytest.approx(27 * 2 / 1000)
    np.testing.assert_allclose(sitk.ReadImage(str(tmp_path / "imagesTr/c_0000.nii.gz")).GetSpacing(), (1, 1, 2))


def test_a_plain_file_is_copied_byte_by_byte(tmp_path: Path) -> None:
    source, mask = save(image(), tmp_path / "i.nii.gz"), save(box(), tmp_path / "m.nii.gz")
    header_of(source, scl_slope=1, scl_inter=0, qform_code=1, xyzt_units=2)
    convert(tmp_path, source, mask)
    assert (tmp_path / "imagesTr/c_0000.nii.gz").read_bytes() == source.read_bytes()


def with_extension(path: Path, extension: bytes) -> None:
    """Put bytes between a file's header and its voxels, marked as extensions."""
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain[:348] + b"\1\0\0\0" + extension + plain[352:]))
    header_of(path, scl_slope=1, scl_inter=0, qform_code=1, xyzt_units=2, vox_offset=352 + len(extension))


@pytest.mark.parametrize("length", [16, 8000, 200_000])
def test_extensions_of_any_length_are_kept(length: int, tmp_path: Path) -> None:
    source, mask = save(image(), tmp_path / "i.nii.gz"), save(box(), tmp_path / "m.nii.gz")
    for path in (source, mask):
        with_extension(path, np.array([length, 4], "<i4").tobytes() + b"x" * (length - 8))
    found = convert(tmp_path, source, mask)
    assert (tmp_path / "imagesTr/c_0000.nii.gz").read_bytes() == source.read_bytes()
    assert (found.lesions, found.warnings) == (1, ())


def test_extensions_that_nibabel_refuses_are_left_out(tmp_path: Path) -> None:
    source, mask = save(image(), tmp_path / "i.nii.gz"), save(box(), tmp_path / "m.nii.gz")
    with_extension(source, bytes(32))
    with pytest.raises(Exception, match="read length"):
        nib.load(source)
    assert any("damaged extensions" in action for action in convert(tmp_path, source, mask).actions)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "imagesTr/c_0000.nii.gz").dataobj), image())


@pytest.mark.parametrize(
    "behind", [b"more!" * 3, bytes(30), gzip.compress(b"a second file", mtime=0)], ids=["text", "zeros", "file"]
)
def test_what_follows_the_compressed_voxels_keeps_no_reader_from_them(behind: bytes, tmp_path: Path) -> None:
    source, mask = save(image(), tmp_path / "i.nii.gz"), save(box(), tmp_path / "m.nii.gz")
    header_of(source, scl_slope=1, scl_inter=0, qform_code=1, xyzt_units=2)
    source.write_bytes(source.read_bytes() + behind)
    actions = convert(tmp_path, source, mask).actions
    assert any("15 bytes after the compressed voxels left out" in action for action in actions) == (b"more" in behind)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "imagesTr/c_0000.nii.gz").dataobj), image())


def test_a_long_header_may_be_spread_over_streams(tmp_path: Path) -> None:
    mask = save(box(), tmp_path / "m.nii.gz")
    plain = nib.Nifti2Image(image(), AFFINE).to_bytes()
    (tmp_path / "i.nii.gz").write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]))
    convert(tmp_path, tmp_path / "i.nii.gz", mask)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "imagesTr/c_0000.nii.gz").dataobj), image())


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
def test_a_file_that_the_disk_gives_back_otherwise_is_no_case(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def spoiled(path: Path) -> Iterator[Path]:
        with atomic_path(path) as temporary:
            yield temporary
            if path.parent.name == folder:
                stored = bytearray(temporary.read_bytes())
                stored[-9] ^= 1  # the last byte of the compressed voxels
                temporary.write_bytes(stored)

    source, mask = save(image(), tmp_path / "i.nii.gz"), save(box(), tmp_path / "m.nii.gz")
    header_of(source, xyzt_units=5)  # so that the image is rewritten
    monkeypatch.setattr("nnunet_transfer.conversion.spatial_images.atomic_path", spoiled)
    with pytest.raises(DataError, match="than were written"):
        convert(tmp_path, source, mask)
    assert not list(tmp_path.glob("*/*"))


def test_a_copy_with_other_bytes_is_no_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(source: Path, target: Path) -> None:
        stored = bytearray(source.read_bytes())
        stored[-9] ^= 1
        target.write_bytes(stored)

    source, mask = save(image(), tmp_path / "i.nii.gz"), save(box(), tmp_path / "m.nii.gz")
    header_of(source, scl_slope=1, scl_inter=0, qform_code=1, xyzt_units=2)
    monkeypatch.setattr("nnunet_transfer.conversion.job.shutil.copyfile", spoiled)
    with pytest.raises(DataError, match="changed while it was copied"):
        convert(tmp_path, source, mask)
    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize("damage", ["cut", "another stream", "bytes behind", "another checksum"])
def test_a_checksum_of_content_is_that_of_one_whole_stream(damage: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than one block
    path = tmp_path / "f.gz"
    stored = gzip.compress(content)
    path.write_bytes(stored)
    assert crc32_of_content(path) == zlib.crc32(content)
    assert crc32_of(path) == zlib.crc32(stored)
    damaged = {
        "cut": stored[:-9],
        "another stream": stored * 2,
        "bytes behind": stored + b"x",
        "another checksum": stored[:-8] + bytes(4) + stored[-4:],
    }
    path.write_bytes(damaged[damage])
    assert crc32_of_content(path) is None
