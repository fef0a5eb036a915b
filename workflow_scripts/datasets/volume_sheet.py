"""Draw a contact sheet of a store of volumes: cases down, slices across, contours on the right.

    python -m workflow_scripts.datasets.volume_sheet --images grid.images.npy \
        --masks grid.masks.npy --index grid.parquet --out grid.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.datasets.segmentation import Volume
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.files import void, write_atomic

N_CASES = 8  # evenly spaced in the order of the index
N_SLICES = 4  # from the first labelled slice to the last
TILE = 128  # pixels
COLOURS = ((230, 60, 60), (240, 200, 40), (70, 140, 240))  # classes 1, 2, 3


def border_of(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels, shape (H, W), whose right or lower neighbour has another class.

    >>> border_of(np.array([[0, 1], [0, 1]], dtype=np.uint8)).tolist()
    [[True, False], [True, False]]
    """
    border = np.zeros(mask.shape, dtype=bool)
    border[:-1] |= mask[:-1] != mask[1:]
    border[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    return border


def tile(image: NDArray[np.float32], mask: NDArray[np.uint8], top: float) -> NDArray[np.uint8]:
    """Return a slice twice side by side, plain and with contours, shape (TILE, 2 TILE, 3)."""
    from PIL import Image

    gray = np.clip(image / max(top, 1e-6), 0, 1) * 255
    plain = Image.fromarray(gray.astype(np.uint8)).resize((TILE, TILE))
    pixels = np.repeat(np.asarray(plain)[:, :, None], 3, axis=2).copy()
    marked = pixels.copy()
    large = np.asarray(Image.fromarray(mask).resize((TILE, TILE), Image.Resampling.NEAREST))
    for number, colour in enumerate(COLOURS, start=1):
        marked[border_of((large == number).astype(np.uint8))] = colour
    return np.concatenate([pixels, marked], axis=1)


def row_of(volume: Volume) -> NDArray[np.uint8]:
    """Return the tiles of one case; a case with fewer slices repeats its last."""
    labelled = np.flatnonzero(volume.mask.any(axis=(1, 2)))
    ends = (labelled[0], labelled[-1]) if len(labelled) else (0, len(volume.mask) - 1)
    chosen = np.round(np.linspace(*ends, N_SLICES)).astype(int)
    low, top = np.percentile(volume.image, (0.5, 99.5))
    image = volume.image - low
    return np.concatenate([tile(image[at], volume.mask[at], top - low) for at in chosen], axis=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and draw the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    given = parser.parse_args(arguments)
    from PIL import Image

    store = VolumeStore(given.images, given.masks, given.index)
    names = store.index["image_id"].drop_duplicates().tolist()
    chosen = np.unique(np.linspace(0, len(names) - 1, N_CASES).round().astype(int))
    sheet = np.concatenate([row_of(store.volume(names[at])) for at in chosen])
    write_atomic(given.out, lambda partial: void(Image.fromarray(sheet).save(partial)))


if __name__ == "__main__":
    sys.exit(run(main))
