"""Make ACDC-C: corrupted copies of the test patients of a cardiac data set, with their masks.

    python -m workflow_scripts.datasets.corrupt --manifest manifest.parquet --card card.json \
        --root data/acdc --options '{"draws": 3}' --seed 0 --jobs 8 --out acdc_c/CORRUPTED.json

Each volume is normalised, resampled in-plane, cropped to 192 x 192, corrupted, and put back
(spec section 11). Folder and marker are the layout `acdc_c`'s. The parameters of every volume
depend on the seed and its name only, and stand in the marker.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workflow_scripts.code_digest import code_digest
from workflow_scripts.command_line import run
from workflow_scripts.datasets.acdc_c import CORRUPTIONS
from workflow_scripts.datasets.corruptions import (
    KERNELS,
    SPIKE_INTENSITY,
    Floats,
    Parameters,
    draw,
    rescale_slices,
)
from workflow_scripts.datasets.kept import Kept
from workflow_scripts.datasets.layout import PHANTOM_MARK, layout_named
from workflow_scripts.datasets.nifti import write_nifti
from workflow_scripts.datasets.segmentation import Segmentation
from workflow_scripts.datasets.volume_files import read_checked
from workflow_scripts.datasets.volumes import cut, in_plane_137
from workflow_scripts.files import read_json, sha256_of, write_json
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.progress import progress
from workflow_scripts.randomness import named_rng

log = logging.getLogger(__name__)

CROP = 192  # pixels; the network's input (spec section 11)
DRAWS = 3  # corrupted copies of a volume (spec section 11)
MARK = "CORRUPTED.json"


class Settings(NamedTuple):
    """What a user may choose."""

    draws: int = DRAWS
    spike_intensity: tuple[float, float] = SPIKE_INTENSITY


class Task(NamedTuple):
    """One volume to corrupt in all ways."""

    row: dict[str, Any]
    settings: Settings
    seed: int


def read_settings(text: str) -> Settings:
    """Return the settings of a config entry's `corruption`, given as JSON.

    Raises:
        InputError: no JSON object; a key or value that is not known.
    """
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise refuse("--options", "a JSON object", f"{text[:80]!r} ({error})", "quote it") from None
    if not isinstance(options, dict):
        raise refuse("--options", "a JSON object", text[:80], "write {...}")
    problems = [
        Problem(f"option corruption.{key}", f"one of {', '.join(Settings._fields)}", key, "correct")
        for key in options
        if key not in Settings._fields
    ]
    draws, intensity = options.get("draws", DRAWS), options.get("spike_intensity", SPIKE_INTENSITY)
    if type(draws) is not int or draws < 1:
        advice = "the paper has 3"
        problems.append(Problem("option corruption.draws", "a number from 1", repr(draws), advice))
    is_pair = isinstance(intensity, (list, tuple)) and len(intensity) == 2
    if not is_pair or not all(type(one) in (int, float) for one in intensity):
        expected, found = "lowest and highest", repr(intensity)
        problems.append(Problem("option corruption.spike_intensity", expected, found, "[1, 3]"))
    if problems:
        raise InputError(problems)
    return Settings(draws, (float(intensity[0]), float(intensity[1])))


def corrupt_in_window(volume: Floats, corruption: str, parameters: Parameters) -> Floats:
    """Corrupt the central 192 x 192 pixels and put them back; outside is 0.

    Args:
        volume: shape (D, H, W), any H and W; the result has the same shape.

    Source: released script (golden `crop_or_pad`, `recover_image`). Ours: an image smaller than
    the window is cut back to its size, where the released script returns it larger than its mask.
    """
    shape = volume.shape
    window = (shape[0], CROP, CROP)
    starts = (0, *(_window_start(n) for n in shape[1:]))
    cropped = rescale_slices(cut(volume, starts, window))
    corrupted = rescale_slices(KERNELS[corruption](cropped, **parameters))
    return cut(corrupted, tuple(-start for start in starts), shape)


def _window_start(n: int) -> int:
    """Return where the window begins; an odd pixel more is padded before, and cropped after.

    >>> _window_start(195), _window_start(189)
    (1, -2)
    """
    return (n - CROP) // 2


def corrupt_row(
    task: Task, kept: Path, root: Path, out: Path, facts: Segmentation, modes: frozenset[str]
) -> dict[str, Parameters]:
    """Write all corrupted copies of one volume; return their parameters by folder.

    What an earlier run finished stands in the folder `kept` and is not made again.
    """
    row, settings, seed = task
    finished = kept / f"{row['patient_id']}-{row['frame']}.json"
    if finished.is_file():
        return read_json(finished)
    volume = in_plane_137(read_checked(root, row, facts, modes).volume)
    drawn = {}
    for corruption in CORRUPTIONS:
        for number in range(settings.draws):
            place = f"{corruption}/{row['patient_id']}_{number}"
            rng = named_rng(seed, "corrupt", place, row["frame"])
            parameters = draw(corruption, rng, settings.spike_intensity)
            image = corrupt_in_window(volume.image.astype(float), corruption, parameters)
            name = f"{place}/{row['frame']}"
            write_nifti(out / f"{name}_img.nii.gz", image.astype(np.float32), volume.spacing_mm)
            write_nifti(out / f"{name}_seg.nii.gz", volume.mask, volume.spacing_mm)
            drawn[name] = {
                key: np.asarray(value).tolist() for key, value in sorted(parameters.items())
            }
    write_json(finished, drawn)
    return drawn


def test_rows(manifest: Path) -> list[dict[str, Any]]:
    """Return the rows of the test patients.

    Raises:
        InputError: there is none, or the manifest has no frames.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(manifest)
    if "frame" not in table.column_names:
        raise refuse(str(manifest), "a manifest of cardiac volumes", "no frames", "see made_from")
    rows: list[dict[str, Any]] = table.to_pylist()
    tested = [row for row in rows if row["split"] == "test"]
    if not tested:
        raise refuse(str(manifest), "volumes in split test", "none", "see its card")
    return tested


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the folder, its marker last."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="of the source data set")
    parser.add_argument("--card", type=Path, required=True, help="of the source data set")
    parser.add_argument("--root", type=Path, required=True, help="folder of the source data set")
    parser.add_argument("--options", default="{}", help="draws and spike_intensity, as JSON")
    parser.add_argument("--seed", type=int, required=True, help="of the artefacts")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help=f"the marker, FOLDER/{MARK}")
    given = parser.parse_args(arguments)
    card, folder = read_json(given.card), given.out.parent
    layout = layout_named(card["layout"])
    if layout.segmentation is None:
        raise refuse(str(given.card), "a layout with masks", layout.name, "see made_from")
    settings = read_settings(given.options)
    tasks = [Task(row, settings, given.seed) for row in test_rows(given.manifest)]
    about = {"made_from": card["dataset"], "manifest_sha256": sha256_of(given.manifest)}
    about |= {"seed": given.seed, **settings._asdict(), "phantom": card["phantom"]}
    code = code_digest(
        "workflow_scripts.datasets.corrupt", f"workflow_scripts.datasets.{card['layout']}"
    )
    kept = Kept(given.out, {**about, "root": str(given.root.absolute()), "code": code})
    if not kept.parts():
        for corruption in CORRUPTIONS:  # what another choice of draws left
            shutil.rmtree(folder / corruption, ignore_errors=True)
    work = partial(
        corrupt_row,
        kept=kept.folder,
        root=given.root,
        out=folder,
        facts=layout.segmentation,
        modes=layout.modes,
    )
    drawn: dict[str, Parameters] = {}
    for parameters in outcomes(tasks, given.jobs, work):
        drawn |= parameters
    if card["phantom"]:
        content = {"phantom": True, "layout": "acdc_c", "images": len(drawn)}
        write_json(folder / PHANTOM_MARK, content)
    write_json(given.out, {**about, "parameters": dict(sorted(drawn.items()))})
    kept.drop()
    log.info("%d corrupted volumes of %d", len(drawn), len(tasks))


def outcomes(
    tasks: Sequence[Task], jobs: int, work: partial[dict[str, Parameters]]
) -> Iterator[dict[str, Parameters]]:
    """Corrupt volumes on `jobs` processes with progress."""
    if jobs <= 1:
        yield from progress(map(work, tasks), len(tasks), "corrupt", "volumes")
        return
    # Fresh processes: forking one in which other libraries have started threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from progress(pool.map(work, tasks), len(tasks), "corrupt", "volumes")


if __name__ == "__main__":
    sys.exit(run(main))
