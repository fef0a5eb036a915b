"""A labelled grid of images of each class, to look at a data set, phantom or real.

    python -m workflow_scripts.phantoms.contact_sheet --manifest manifest.parquet \
        --root data/chestx --card card.json --out sheet.jpg
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from workflow_scripts.command_line import run
from workflow_scripts.datasets.geometry import UnusablePixels, to_eight_bit
from workflow_scripts.datasets.image_source import read_image
from workflow_scripts.datasets.sheet_file import write_sheet
from workflow_scripts.files import read_json
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    import pandas as pd

MARGIN: Final = 4  # pixels between pictures
CAPTION: Final = 16  # pixels under a picture


def eight_bit(image: Image.Image) -> Image.Image:
    """Return an image to look at; one with 16 bits is stretched, Pillow would clip it to white."""
    try:
        return to_eight_bit(image, "stretch").convert("RGB")
    except UnusablePixels:  # one gray level throughout
        return Image.new("RGB", image.size)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the sheet from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="of the data set (.parquet)")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--card", type=Path, help="gives the classes their names")
    parser.add_argument("--per-class", type=int, default=6, help="images (default: %(default)s)")
    parser.add_argument("--side", type=int, default=224, help="pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which images (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JPEG to write")
    given = parser.parse_args(arguments)

    import pandas as pd

    table = pd.read_parquet(given.manifest)
    card = read_json(given.card) if given.card else {}
    title = "phantom: synthetic patients" if card.get("phantom") else str(card.get("title", ""))
    rng = np.random.default_rng(given.seed)
    rows = choose(table, card.get("classes", ()), given.per_class, rng)
    if not rows:
        found = "none"
        raise refuse(str(given.manifest), "labelled images", found, "look at quarantine.csv")
    sheet = draw_sheet(given.root, rows, given.side, title)
    write_sheet(given.out, sheet)


def choose(
    table: pd.DataFrame, classes: Sequence[str], per_class: int, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    """Return up to `per_class` images of each class, of different patients where possible.

    Args:
        table: a manifest, single-label (`label`) or multi-label (`label_{finding}`).
        classes: names in label order; numbers stand in where they are missing.
        per_class: images a class.
        rng: draws them.
    """
    shuffled = table.iloc[rng.permutation(len(table))]
    if "label" in table:
        names = dict(enumerate(classes))
        groups = {
            str(names.get(int(label), f"class {label}")): shuffled[shuffled["label"] == label]
            for label in sorted(table["label"].unique())
        }
    else:
        findings = [name for name in table.columns if name.startswith("label_")]
        groups = {name.removeprefix("label_"): shuffled[shuffled[name] == 1] for name in findings}
    chosen = {}
    for name, members in groups.items():
        repeats = members.duplicated("patient_id").to_numpy()  # new patients first
        if len(members):
            chosen[name] = members.iloc[np.argsort(repeats, kind="stable")[:per_class]]
    return chosen


def draw_sheet(
    root: Path, rows: dict[str, pd.DataFrame], side: int, title: str = ""
) -> Image.Image:
    """Return the sheet: one row a class, each image fitted into `side` by `side` pixels."""
    columns = max(len(images) for images in rows.values())
    step_x, step_y = side + MARGIN, side + CAPTION + MARGIN
    head = 2 * CAPTION if title else 0
    sheet = Image.new("RGB", (columns * step_x, head + len(rows) * step_y), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    pen.text((MARGIN, MARGIN), title, fill="black", font=ImageFont.load_default(18))
    for line, (name, images) in enumerate(rows.items()):
        for column, row in enumerate(images.to_dict("records")):
            x, y = column * step_x, head + line * step_y
            with Image.open(io.BytesIO(read_image(root, str(row["path"])).file())) as image:
                picture = ImageOps.contain(eight_bit(image), (side, side))
            sheet.paste(picture, (x, y))
            caption = f"{name}  {_person(row['sex'], row['age_years'])}"
            pen.text((x + 2, y + side + 1), caption, fill="black", font=font)
    return sheet


def _person(sex: object, age_years: float) -> str:
    """Return such as `F 58`; nothing where unknown."""
    age = "" if np.isnan(age_years) else f"{age_years:.0f}"
    return f"{sex if isinstance(sex, str) else ''} {age}".strip()


if __name__ == "__main__":
    sys.exit(run(main))
