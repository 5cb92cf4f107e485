"""Masks from COCO's instance annotations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_transfer.errors import DataError, SettingsError

#: value of crowd regions; no category has it
CROWD = 255


@dataclass(frozen=True)
class CocoMask:
    """The mask of one picture: with objects drawn from the largest to the smallest, on top of crowds.

    Attributes
    ----------
    path : the annotation file
    height, width : pixels
    objects : value and `segmentation` (polygons or run lengths) of each object, in drawing order
    """

    path: Path
    height: int
    width: int
    objects: tuple[tuple[int, Any], ...]

    def read(self) -> np.ndarray:
        """Draw the mask, shape `(height, width)`.

        Raises
        ------
        SettingsError
            If pycocotools is not installed.
        """
        try:
            from pycocotools import mask as coco_mask
        except ImportError:
            raise SettingsError('coco2017 needs pycocotools; run: pip install "nnunet_transfer[coco]"') from None
        drawn = np.zeros((self.height, self.width), np.uint8)
        for value, segmentation in self.objects:
            if isinstance(segmentation, list):
                runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, self.height, self.width))
            elif isinstance(segmentation["counts"], list):
                runs = coco_mask.frPyObjects(segmentation, self.height, self.width)
            else:
                runs = segmentation
            drawn[coco_mask.decode(runs).astype(bool)] = value
        return drawn


def read_masks(file: Path) -> Iterator[tuple[str, CocoMask]]:
    """Yield the file name and mask of each picture in an annotation file; pictures without objects have an empty mask.

    Raises
    ------
    DataError
        If the file is not an annotation file of COCO.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        objects = defaultdict(list)
        for annotation in content["annotations"]:
            objects[annotation["image_id"]].append(annotation)
        for picture in content["images"]:
            own = sorted(objects[picture["id"]], key=lambda a: (not a["iscrowd"], -a["area"], a["id"]))
            drawn = tuple((CROWD if a["iscrowd"] else a["category_id"], a["segmentation"]) for a in own)
            yield picture["file_name"], CocoMask(file, picture["height"], picture["width"], drawn)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not an annotation file of COCO ({type(error).__name__}: {error})") from None
