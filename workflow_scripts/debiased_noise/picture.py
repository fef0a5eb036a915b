"""Draw a noise edit: the noise, where it acts, and an image of each subgroup with and without it.

    python -m workflow_scripts.debiased_noise.picture --edit noise_edit.safetensors \
        --store exact224.npy --index exact224.parquet --manifest manifest.parquet \
        --card card.json --leak-free leak_free.json --out edit.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.datasets.biased_split import ATTRIBUTES
from workflow_scripts.debiased_noise.cohort import Cohort, add_cohort_arguments, read_cohort
from workflow_scripts.debiased_noise.heat_map import heat_map
from workflow_scripts.debiased_noise.noise_edit import Noise, norms, read_edit
from workflow_scripts.debiased_noise.protocols import METHODS
from workflow_scripts.files import write_atomic
from workflow_scripts.metrics import fairness

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
DPI = 150
RC: dict[Any, Any] = {"font.size": 8.0, "font.family": "DejaVu Sans"}


def subgroup_images(cohort: Cohort, stored: NDArray[np.uint8], name: str) -> dict[str, Floats]:
    """Return the first test image of each subgroup, gray values in [0, 1], shape (H, W).

    Args:
        cohort: of the images.
        stored: shape (N, H, W, 3).
        name: what is true of the images that have the attribute, such as `male`.
    """
    rows = cohort.rows("test", known=True, one_class=True)
    cells = cohort.cells()[rows]
    found = {}
    for cell in range(4):
        if (cells == cell).any():
            group = ("not " * (1 - cell // 2)) + name.replace("_", " ")
            title = f"{group}, {cohort.classes[cell % 2]}"
            pixels = stored[rows[cells == cell][0]].astype(np.float64)
            found[title] = pixels.mean(axis=-1) / 255
    return found


def draw(
    noise: Noise, images: dict[str, Floats], mean_image: Floats, title: str, is_phantom: bool
) -> Figure:
    """Return the figure.

    Args:
        noise: the edit, shape (H, W), pixel units.
        images: title to image, shape (H, W), in [0, 1].
        mean_image: mean of the test images, shape (H, W).
        title: of the figure.
        is_phantom: writes so on it.
    """
    from matplotlib.figure import Figure

    columns = max(2, len(images))
    figure = Figure(figsize=(2.3 * columns + 0.6, 7.4), layout="constrained")
    axes = figure.subplots(3, columns, squeeze=False)
    _draw_noise(figure, axes[0, 0], noise)
    _draw_heat(axes[0, 1], noise, mean_image)
    for place, (name, image) in enumerate(images.items()):
        for axis, picture in ((axes[1, place], image), (axes[2, place], image + noise)):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1)  # shown clipped, used unclipped
        axes[1, place].set_title(name.replace(", ", ",\n"), fontsize=7)
        axes[2, place].set_title("edited", fontsize=7)
    for axis in axes.flat:
        axis.axis("off")
    warning = "\nPHANTOM: synthetic patients or weights; says nothing about real data"
    figure.suptitle(title + warning * is_phantom, x=0.01, ha="left", fontsize=9)
    return figure


def _draw_noise(figure: Figure, axis: Axes, noise: Noise) -> None:
    largest = float(np.abs(noise).max()) or 1.0
    shown = axis.imshow(noise, cmap="RdBu_r", vmin=-largest, vmax=largest)
    figure.colorbar(shown, ax=axis, location="bottom", shrink=0.8, label="pixel units")
    axis.set_title("noise edit", fontsize=8)


def _draw_heat(axis: Axes, noise: Noise, mean_image: Floats) -> None:
    heat = heat_map(noise).above[:-1, :-1]
    axis.imshow(mean_image, cmap="gray", vmin=0, vmax=1)
    axis.imshow(np.ma.masked_equal(heat, 0), cmap="viridis", alpha=0.75)
    axis.set_title("smoothed, highest fifth,\non the mean test image", fontsize=8)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw one edit from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--edit", type=Path, required=True, help="noise edit, .safetensors")
    parser.add_argument("--store", type=Path, required=True, help="images, .npy")
    parser.add_argument("--index", type=Path, required=True, help="rows of the store, .parquet")
    add_cohort_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .png")
    given = parser.parse_args(arguments)

    from matplotlib import rc_context

    from workflow_scripts.datasets.pixels import open_store

    store = open_store(given.store, given.index)
    noise, card = read_edit(given.edit, store.images.shape[1])
    cohort = read_cohort(given, store.image_id)
    test = cohort.rows("test")
    mean_image = store.images[test].mean(axis=(0, 3)) / 255
    size = norms(noise)
    title = (
        f"{METHODS.get(card['method'], card['method'])}, {card.get('checkpoint', 'unknown model')},"
        f" hides {fairness.ATTRIBUTES[given.attribute]}\n"
        f"norm {size['l2_norm']:.3g}, largest {size['largest']:.3g} (1 is the range of an image)"
    )
    is_phantom = bool(card.get("phantom") or cohort.card["phantom"])
    with rc_context(RC):
        images = subgroup_images(cohort, store.images, ATTRIBUTES[given.attribute])
        figure = draw(noise, images, mean_image, title, is_phantom)
        blank = {"Software": None}
        write_atomic(given.out, lambda part: figure.savefig(part, dpi=DPI, metadata=blank))


if __name__ == "__main__":
    sys.exit(run(main))
