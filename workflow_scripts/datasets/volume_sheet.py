"""Draw a contact sheet of a store of volumes: cases down, slices across, contours on the right.

    python -m workflow_scripts.datasets.volume_sheet --images grid.images.npy \
        --masks grid.masks.npy --index grid.parquet --out grid.jpg
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
from workflow_scripts.datasets.sheet_file import write_sheet
from workflow_scripts.datasets.volume_reader import VolumeStore

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


def tiles_of(volume: Volume) -> list[NDArray[np.uint8]]:
    """Return up to `N_SLICES` tiles of one case, from its first labelled slice to its last."""
    labelled = np.flatnonzero(volume.mask.any(axis=(1, 2)))
    first, last = (labelled[0], labelled[-1]) if len(labelled) else (0, len(volume.mask) - 1)
    chosen = np.unique(np.round(np.linspace(first, last, N_SLICES)).astype(int))
    low, top = np.percentile(volume.image, (0.5, 99.5))
    return [tile(volume.image[at] - low, volume.mask[at], float(top - low)) for at in chosen]


def sheet_of(store: VolumeStore) -> NDArray[np.uint8]:
    """Return the sheet, shape (rows TILE, 2 N_SLICES TILE, 3); what is left over stays black."""
    names = store.index["image_id"].drop_duplicates().tolist()
    is_flat = (store.index["slice"] == 0).all()
    n_cases = N_CASES * (N_SLICES if is_flat else 1)
    chosen = np.unique(np.linspace(0, len(names) - 1, n_cases).round().astype(int))
    rows: list[list[NDArray[np.uint8]]] = [[]]
    for at in chosen:
        for one in tiles_of(store.volume(names[at])):
            rows[-1].append(one)
            if len(rows[-1]) == N_SLICES:
                rows.append([])
        if not is_flat and rows[-1]:
            rows.append([])
    blank = np.zeros((TILE, 2 * TILE, 3), dtype=np.uint8)
    full = [row + [blank] * (N_SLICES - len(row)) for row in rows if row]
    return np.concatenate([np.concatenate(row, axis=1) for row in full])


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and draw the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--images", type=Path, required=True, help="voxels of the volume store (.npy)"
    )
    parser.add_argument("--masks", type=Path, required=True, help="their classes (.npy)")
    parser.add_argument(
        "--index", type=Path, required=True, help="index of the volume store (.parquet)"
    )
    parser.add_argument("--out", type=Path, required=True, help="JPEG to write")
    given = parser.parse_args(arguments)
    from PIL import Image

    store = VolumeStore(given.images, given.masks, given.index)
    sheet = sheet_of(store)
    write_sheet(given.out, Image.fromarray(sheet))


if __name__ == "__main__":
    sys.exit(run(main))
