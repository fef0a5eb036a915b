"""The file of a contact sheet: a look at a data set, an eighth of the bytes of a PNG file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workflow_scripts.files import write_atomic

if TYPE_CHECKING:
    from PIL import Image

QUALITY: Final = 85  # of 100 (ours)


def write_sheet(path: Path, sheet: Image.Image) -> None:
    """Write the sheet as JPEG, colours at full resolution: contours are one pixel wide."""
    write_atomic(path, partial(sheet.save, format="JPEG", quality=QUALITY, subsampling=0))
