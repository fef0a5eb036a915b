"""The few images that saliency maps and reconstructions are made of: named, or drawn by seed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.geometry import BitDepth, Geometry
from workflow_scripts.datasets.image_source import file_of, read_image
from workflow_scripts.datasets.store import DECODING_ERRORS, bit_depth_of, decode
from workflow_scripts.files import read_json
from workflow_scripts.predictions import CASE_COLUMNS
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.randomness import named_rng
from workflow_scripts.ssl_transfer.cases import SYSTEM

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (*CASE_COLUMNS, "path")


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where the images are and which are taken."""
    parser.add_argument("--manifest", type=Path, required=True, help="of the data set (.parquet)")
    parser.add_argument("--card", type=Path, required=True, help="of the data set (.json)")
    parser.add_argument("--root", type=Path, required=True, help="folder of the archive")
    parser.add_argument("--bit-depth", type=bit_depth_of, help="as in the rule `store`")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        help="a file of the archive, or the end of a path in the manifest; may be repeated",
    )
    parser.add_argument("--n-images", type=int, default=1, help="drawn where none is named (1)")


def choose_images(given: argparse.Namespace, parts: Sequence[str], stage: str) -> pd.DataFrame:
    """Return the rows (`COLUMNS`) of the images to use, in the order of their names or draws.

    A named image need not be in the manifest: a label policy may have dropped it, and a map
    needs no label. Drawn images depend on seed and data set only: every checkpoint sees the same.

    Args:
        given: the command line, with `manifest, card, root, image, n_images, seed`.
        parts: of the split that images are drawn from.
        stage: names the draw.

    Raises:
        InputError: a name that fits no image or several, or fewer images than asked for.
    """
    import pyarrow.parquet as pq

    table: pd.DataFrame = pq.ParquetFile(given.manifest).read().to_pandas()
    table = table.sort_values("image_id", ignore_index=True)
    if given.image:
        return _named(given.image, table, given.root)
    pool = table[table["split"].isin(parts)]
    if not 1 <= given.n_images <= len(pool):
        found = f"{len(pool)} in the parts {', '.join(parts)} of {given.manifest}"
        raise refuse("--n-images", f"1 to {len(pool)} images", f"{given.n_images}; {found}", "ask "
                     "for fewer images")  # fmt: skip
    rng = named_rng(given.seed, SYSTEM, stage, read_json(given.card)["dataset"])
    return pool.iloc[rng.permutation(len(pool))[: given.n_images]][list(COLUMNS)]


def _named(names: Sequence[str], table: pd.DataFrame, root: Path) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    files = ["/" + file_of(path) for path in table["path"]]
    for name in names:
        places = [row for row, file in enumerate(files) if file.endswith("/" + name)]
        if len(places) == 1:
            rows.append({column: table[column].iloc[places[0]] for column in COLUMNS})
        elif not places and (root / name).is_file():
            unknown: dict[str, Any] = dict.fromkeys(COLUMNS) | {"age_years": np.nan}
            known = {"image_id": name, "patient_id": name, "path": name, "domain": root.name}
            rows.append(unknown | known | {"split": "none"})
        else:
            found = f"{len(places)} images that end so" if places else "none"
            next_step = "give the path below the data set's folder, or more of it"
            problems.append(Problem(f"--image {name}", "one image", found, next_step))
    if problems:
        raise InputError(problems)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def decode_images(
    rows: pd.DataFrame, root: Path, side: int, bit_depth: BitDepth
) -> NDArray[np.uint8]:
    """Return the pixels of the images, shorter side `side` (bicubic), centre crop.

    Returns:
        Shape (N, side, side, 3).

    Raises:
        InputError: every image that cannot be read or decoded.
    """
    geometry = Geometry("shorter", side, "bicubic", side)  # spec P4 (242) and P5 (224)
    pixels, problems = [], []
    for path in rows["path"]:
        try:
            content = read_image(root, path).file()
            pixels.append(decode(content, geometry, bit_depth))
        except (InputError, *DECODING_ERRORS) as error:
            step = "restore the file, or name another image"
            problems.append(Problem(str(root / path), "an image", str(error), step))
    if problems:
        raise InputError(problems)
    return np.stack(pixels)
