"""Figure of uncertainty beside images and contours (Fig. 1): one row a case.

    python -m workflow_scripts.layer_ensembles.heat_maps --examples examples.npz --skip 3 \\
        --title 'bcdr, layer_ensembles, corrected' --out heat_maps.png

Contours: the reference green, the prediction (mean of the heads) blue; of several structures red,
green and blue, the prediction dashed. On the maps the reference is black. Maps are
normalised to their own range and blended with the image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.files import write_atomic
from workflow_scripts.metrics import uncertainty

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
SIDE = 1.7  # inches of a panel
DPI = 160
PAIR = ("lime", "deepskyblue")  # reference and prediction of one structure
STRUCTURES = ("red", "lime", "blue")  # LV, MYO, RV (released code); the prediction dashed


class Example(NamedTuple):
    """One slice: gray values, reference and logits of all predictions (T, C, H, W)."""

    name: str
    image: NDArray[np.float32]
    truth: NDArray[np.uint8]
    logits: NDArray[np.float16]


def read_examples(path: Path) -> list[Example]:
    """Return the examples that `predict` kept."""
    with np.load(path) as file:
        return [
            Example(str(name), file[f"image_{i}"], file[f"truth_{i}"], file[f"logits_{i}"])
            for i, name in enumerate(file["names"])
        ]


def gray(image: NDArray[np.floating]) -> Floats:
    """Return gray values between their 1st and 99th percentile as 0 to 1."""
    low, high = np.percentile(image, (1, 99))
    scaled: Floats = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    return scaled


def blended(image: Floats, heat: Floats) -> Floats:
    """Return the map in colours over the image: their sum divided by its maximum."""
    from matplotlib import colormaps

    colours = colormaps["jet"](uncertainty.minmax_normalise(heat))[..., :3]
    total: Floats = colours + image[..., None]
    total /= total.max()
    return total


def draw(examples: Sequence[Example], skip: int, title: str) -> Figure:
    """Return the figure: image, prediction, and three maps with the image's AULA."""
    from matplotlib.figure import Figure

    figure = Figure((SIDE * 5, SIDE * len(examples) + 0.7), layout="constrained")
    axes = figure.subplots(len(examples), 5, squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        _draw_case(row, example, skip)
    for axis, words in zip(
        axes[0], ("image", "reference, prediction", "entropy", "mutual information", "variance"),
        strict=True,
    ):  # fmt: skip
        axis.set_title(words, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def _draw_case(row: Sequence[Axes], example: Example, skip: int) -> None:
    p = uncertainty.softmax(example.logits[skip:])
    label = p.mean(axis=0).argmax(axis=0)
    area = uncertainty.aula(uncertainty.layer_agreement(uncertainty.most_likely(p) > 0))
    image = gray(example.image)
    for axis in row[:2]:
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    n_structures = p.shape[1] - 1
    for number in range(n_structures):
        colours = PAIR if n_structures == 1 else (STRUCTURES[number % len(STRUCTURES)],) * 2
        _contour(row[1], example.truth == number + 1, colours[0])
        _contour(
            row[1], label == number + 1, colours[1], "solid" if n_structures == 1 else "dashed"
        )
    for axis, heat in zip(row[2:], uncertainty.uncertainty_maps(p, "corrected"), strict=True):
        axis.imshow(blended(image, heat))
        _contour(axis, example.truth > 0, "black")
    words = f"AULA {area:.2f} of {max(len(p) - 2, 0)}" if len(p) > 2 else ""
    row[0].set_ylabel(f"{example.name[-22:]}\n{words}", fontsize=6)
    for axis in row:
        axis.set(xticks=[], yticks=[])


def _contour(axis: Axes, mask: NDArray[np.bool_], colour: str, style: str = "solid") -> None:
    if mask.any() and not mask.all():
        axis.contour(mask, levels=[0.5], colors=colour, linewidths=0.8, linestyles=style)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure of one run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--examples", type=Path, required=True, help="cases that the step predict kept (.npz)"
    )
    parser.add_argument("--skip", type=int, required=True, help="first heads left out")
    parser.add_argument("--title", required=True, help="of the figure")
    parser.add_argument(
        "--phantom", action="store_true", help="say that the patients are synthetic"
    )
    parser.add_argument("--out", type=Path, required=True, help="figure to write (.png)")
    given = parser.parse_args(arguments)
    title = given.title + "\nPHANTOM: synthetic patients" * given.phantom
    figure = draw(read_examples(given.examples), given.skip, title)
    write_atomic(given.out, lambda partial: figure.savefig(partial, dpi=DPI))


if __name__ == "__main__":
    sys.exit(run(main))
