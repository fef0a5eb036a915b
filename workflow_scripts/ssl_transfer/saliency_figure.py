"""Step: the maps of all checkpoints on one data set as a picture: image, map, overlay."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.problems import require_files
from workflow_scripts.ssl_transfer.occlusion import attentive_diffusion
from workflow_scripts.ssl_transfer.picture_grid import draw_grid, stretched

COLORS = "jet"  # as released
ROWS = ("image", "map", "overlay")
NOTE = "below each name: attentive diffusion; each map from its least (blue) to its largest (red)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the first image of each file of maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=Path, nargs="+", required=True, help="of saliency (.npz)")
    parser.add_argument("--out", type=Path, required=True, help="picture to write (.png)")
    given = parser.parse_args(arguments)
    require_files(given.maps)
    columns, names = [], []
    title, data = [""], ""
    for path in given.maps:
        with np.load(path, allow_pickle=False) as content:
            image, saliency = content["pixels"][0], content["maps"][0].astype(np.float64)
            where = f"{content['dataset']}, {content['image_id'][0]}"
            title = ["occlusion saliency", where, NOTE]
            data = str(content["data"])
            names.append(f"{content['checkpoint']}\n{100 * attentive_diffusion(saliency):.1f} %")
        shown = stretched(saliency)
        columns.append([[(image, None)], [(shown, COLORS)], [(image, None), (shown, COLORS)]])
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    draw_grid(rows, ROWS, names, title, data, given.out)


if __name__ == "__main__":
    sys.exit(run(main))
