"""Step: one picture of the project for the README, a panel a system, from the demo's figures.

Run it after `make demo`::

    python -m workflow_scripts.report.overview_picture --results results/demo \\
        --out docs/images/demo.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from workflow_scripts.command_line import run
from workflow_scripts.files import write_atomic
from workflow_scripts.problems import refuse

WIDTH, GAP, TITLE = 1800, 30, 46  # pixels
FONT_SIZE = 26  # pixels
INK, PAPER = (20, 20, 20), (255, 255, 255)


class Panel(NamedTuple):
    """A figure of the demo.

    Attributes:
        figure: below the folder of results; `*` stands for what a demo may choose.
        title: the question that it answers.
    """

    figure: str
    title: str


ROWS: tuple[tuple[Panel, ...], ...] = (
    (Panel("tables/ssl_transfer_few_shot.png", "Which pretrained backbone serves which data?"),),
    (
        Panel("figures/crocodile_reliability.png", "Is it calibrated at another hospital?"),
        Panel("figures/layer_ensembles_heat_maps_bcdr_*.png", "Where is it unsure?"),
    ),
    (
        Panel("figures/cooperative_training_severity-*.png", "Does it survive artefacts?"),
        Panel("figures/debiased_noise_fairness_plane.png", "Is it fair, and accurate?"),
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the demo's results")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write (.png)")
    given = parser.parse_args(arguments)
    rows = [[found(given.results, panel) for panel in row] for row in ROWS]
    picture = stacked([side_by_side(row) for row in rows])
    write_atomic(given.out, lambda path: save(picture, path))


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture small enough for a repository: 256 colours."""
    picture.quantize(256).save(path, format="PNG", optimize=True)


def found(results: Path, panel: Panel) -> Image.Image:
    """Return a panel's figure, its title in `info`.

    Raises:
        InputError: the demo has not made it.
    """
    paths = sorted(results.glob(panel.figure))
    if not paths:
        where = str(results / panel.figure)
        raise refuse(where, "a figure of the demo", "none", "run make demo first")
    with Image.open(paths[0]) as figure:
        plain = figure.convert("RGB")
    plain.info = {"title": panel.title}
    return plain


def side_by_side(figures: Sequence[Image.Image]) -> Image.Image:
    """Return figures in one row of the picture's width, each below its title."""
    width = (WIDTH - GAP * (len(figures) - 1)) // len(figures)
    fitted = [one.resize((width, round(one.height * width / one.width))) for one in figures]
    row = Image.new("RGB", (WIDTH, TITLE + max(one.height for one in fitted)), PAPER)
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(FONT_SIZE)
    for place, (figure, one) in enumerate(zip(figures, fitted, strict=True)):
        left = place * (width + GAP)
        draw.text((left + 8, 8), str(figure.info["title"]), INK, font)
        row.paste(one, (left, TITLE))
    return row


def stacked(rows: Sequence[Image.Image]) -> Image.Image:
    """Return rows below each other."""
    height = sum(row.height for row in rows) + GAP * (len(rows) - 1)
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height + GAP
    return picture


if __name__ == "__main__":
    sys.exit(run(main))
