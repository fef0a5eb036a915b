"""Write a phantom archive: a data set's published layout with synthetic patients in it.

    python -m workflow_scripts.datasets.phantom --dataset chestx --options '{"layout": "chestx"}' \
        --phantom '{"patients": 120, "image_size": 256, "min_per_class": 40}' --seed 0 --jobs 2 \
        --out results/demo/phantoms/chestx/PHANTOM.json

`--out` names the mark at the top of the folder, which is written beside its place and renamed
when it is complete. `--phantom` holds `patients` (chestx, table, diabetic_retinopathy) or `images`
(the others), `image_size` (pixels), `min_per_class`, `anatomy` (table: chest or histology), and any
of the knobs in `phantoms/knobs.py`.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import json
import logging
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workflow_scripts.command_line import run
from workflow_scripts.datasets.layout import (
    PHANTOM_MARK,
    Options,
    Render,
    check_options,
    layout_named,
    mark_phantom,
    write_images,
)
from workflow_scripts.datasets.phantom_kinds import DRAWN_HERE, KINDS, draw_kind
from workflow_scripts.files import read_json, write_json, write_text
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.problems import InputError, Problem, nearest, refuse
from workflow_scripts.progress import progress
from workflow_scripts.randomness import named_rng

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

Draw = Callable[[dict[str, Any]], Any]  # returns a picture, or a volume

KEEPSAKE: Final = ".phantom"  # stays when a workflow deletes the mark before it starts the rule
HEALTHY: Final = ("No Finding", "Normal", "normal", "healthy")  # a table's names for health
TABLE_CLASSES: Final = {
    "chest": ("No Finding", "Effusion", "Cardiomegaly"),
    "histology": ("Normal", "Benign", "InSitu", "Invasive"),
}
# Width over height of the archive's pictures: Shenzhen's vary around 1, BACH's are 2048 x 1536.
HEIGHT_SHARE: Final = {"shenzhen": 0.92, "bach": 0.75}


@dataclass(frozen=True, slots=True)
class PhantomSize:
    """How large a phantom is; the knobs stand beside it in the same JSON object.

    Attributes:
        patients: how many, for layouts in which patients come several times.
        images: how many, for layouts with one image a patient.
        image_size: pixels of the longer side.
        min_per_class: images with exactly one label, for each class (35 make a 20-shot,
            15-query episode).
        anatomy: what a user's table shows, `chest` or `histology`.
    """

    patients: int | None = None
    images: int | None = None
    image_size: int = 256
    min_per_class: int = 2
    anatomy: str = "chest"


def parse_phantom(text: str, layout: str) -> tuple[PhantomSize, Knobs]:
    """Return size and knobs from the JSON object of `--phantom`.

    Raises:
        InputError: every unknown key (with the nearest) and every value out of range.
    """
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise refuse("--phantom", "a JSON object", f"{text[:80]!r} ({error})", "quote it") from None
    if not isinstance(given, dict):
        raise refuse("--phantom", "a JSON object", text[:80], "write {...}")
    sizes, knobs = [f.name for f in fields(PhantomSize)], [f.name for f in fields(Knobs)]
    problems = [
        Problem(f"phantom.{key}", "a known key", repr(key), nearest(key, [*sizes, *knobs]))
        for key in given
        if key not in (*sizes, *knobs)
    ]
    by_images = layout in HEIGHT_SHARE or (layout in KINDS and KINDS[layout].count == "images")
    count, other = ("images", "patients") if by_images else ("patients", "images")
    lowest = {count: 2, "image_size": 64, "min_per_class": 1}
    for key, low in lowest.items():
        value = given.get(key, getattr(PhantomSize(), key))
        if type(value) is not int or value < low:
            expected = f"an integer from {low} on"
            problems.append(Problem(f"phantom.{key}", expected, repr(value), "correct it"))
    if other in given:
        advice = f"give {count} instead"
        problems.append(Problem(f"phantom.{other}", f"no such key for {layout}", "one", advice))
    if given.get("anatomy", "chest") not in TABLE_CLASSES:
        expected, found = f"one of {', '.join(TABLE_CLASSES)}", repr(given["anatomy"])
        problems.append(Problem("phantom.anatomy", expected, found, "correct it"))
    try:
        chosen = Knobs(**{key: given[key] for key in knobs if key in given})
    except ValueError as error:
        problems.append(Problem("phantom", "knobs in their range", str(error), "correct it"))
    if problems:
        raise InputError(problems)
    return PhantomSize(**{key: given[key] for key in sizes if key in given}), chosen


def sample_truth(
    options: Options, size: PhantomSize, seed: int, dataset: str
) -> tuple[pd.DataFrame, str]:
    """Return the truth of every image and the anatomy that shows it."""
    from workflow_scripts.datasets import chest_truth, chestx, phantom_truth

    rng = named_rng(seed, "phantom", dataset, "truth")
    layout = options["layout"]
    if kind := KINDS.get(layout):
        n_wanted = getattr(size, kind.count) or 0
        return kind.truth(rng, n_wanted, size.min_per_class, options), kind.anatomy
    if layout == "shenzhen":
        return phantom_truth.shenzhen_truth(rng, size.images or 0, size.min_per_class), "chest"
    if layout == "bach":
        return phantom_truth.bach_truth(rng, size.images or 0, size.min_per_class), "histology"
    patients = size.patients or 0
    if layout == "chestx":
        months = (options.get("index") or chestx.INDEX_2017) == chestx.INDEX_2017
        return phantom_truth.chestx_truth(rng, patients, size.min_per_class, months), "chest"
    if layout == "chexpert":
        return chest_truth.chexpert_truth(rng, patients, size.min_per_class, full=False), "chest"
    if layout == "mimic_cxr":
        return chest_truth.mimic_cxr_truth(rng, patients, size.min_per_class), "chest"
    if layout == "padchest":
        return chest_truth.padchest_truth(rng, patients, size.min_per_class), "chest"
    if layout != "table":
        advice = f"add a sampler for it in {phantom_truth.__name__}"
        raise refuse("option layout", "a layout with a phantom", repr(layout), advice)
    classes = [str(name) for name in _table_classes(options, size.anatomy)]
    folder = Path(str(options["table"])).parent / str(options.get("image_folder") or "images")
    truth = phantom_truth.table_truth(rng, patients, size.min_per_class, classes, folder.as_posix())
    return truth, size.anatomy


def _table_classes(options: Options, anatomy: str) -> Sequence[str]:
    """Return the classes of a user's table, all of which the anatomy has to be able to show."""
    from workflow_scripts.phantoms.chest import FINDINGS
    from workflow_scripts.phantoms.histology import CLASSES

    findings = options.get("labels")
    classes = [HEALTHY[0], *findings] if findings else options.get("classes")
    classes = classes or TABLE_CLASSES[anatomy]
    known = [*FINDINGS, *HEALTHY] if anatomy == "chest" else list(CLASSES)
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise InputError(
            Problem(
                f"class {name!r}",
                f"something a {anatomy} phantom shows",
                repr(name),
                nearest(str(name), known),
            )
            for name in unknown
        )
    return classes


def draw(
    row: Mapping[str, Any], anatomy: str, knobs: Knobs, size: int, seed: int, dataset: str
) -> Image.Image | NDArray[np.int16]:
    """Return the picture of one row in the mode that the row asks for; of a CT, the volume."""
    from workflow_scripts.phantoms.chest import ChestCase, render_chest, side_view
    from workflow_scripts.phantoms.histology import render_histology

    streams = functools.partial(named_rng, seed, "phantom", dataset, str(row["patient_id"]))
    if anatomy in DRAWN_HERE:
        pixels = draw_kind(row, anatomy, streams, knobs, size)
        if pixels.ndim == 3 and pixels.dtype == np.int16:
            return pixels
    elif anatomy == "histology":
        pixels = render_histology(streams, row["image_id"], row["label_text"], knobs, size)
    else:
        findings = [name for name in row["findings"].split("|") if name and name not in HEALTHY]
        projection = "AP" if str(row["view"]).startswith("AP") else "PA"
        case = ChestCase(row["image_id"], findings, row["sex"], float(row["age_years"]), projection)
        pixels = render_chest(streams, case, knobs, size)
        pixels = side_view(pixels) if row["view"] == "lateral" else pixels
    kind = KINDS.get(str(row["domain"]))
    share = kind.height_share if kind else HEIGHT_SHARE.get(str(row["domain"]), 1.0)
    height = round(len(pixels) * share)
    return Image.fromarray(pixels[:height]).convert(row["mode"])


def write_archive(
    root: Path, options: Options, truth: pd.DataFrame, draw_row: Draw, jobs: int
) -> None:
    """Write the archive of `truth` below `root`, drawing in `jobs` processes."""
    layout = layout_named(str(options["layout"]))
    ticks = iter(progress(range(len(truth)), len(truth), "draw"))
    lock = threading.Lock()
    with ExitStack() as stack:
        pool = None
        if jobs > 1:
            context = multiprocessing.get_context("spawn")  # see store.py
            pool = stack.enter_context(ProcessPoolExecutor(jobs, mp_context=context))

        def render(row: dict[str, Any]) -> Any:  # noqa: ANN401, a picture or a volume
            picture = pool.submit(draw_row, row).result() if pool else draw_row(row)
            with lock:
                next(ticks, None)
            return picture

        if layout.write is None:
            _write_table(root, options, truth, render)
        else:
            layout.write(root, truth, render, options)
        next(ticks, None)  # lets the bar close


def _write_table(root: Path, options: Options, truth: pd.DataFrame, render: Render) -> None:
    """Write a user's table: the columns that the options name, and the images."""
    write_images(root, truth, render)
    image_folder = str(options.get("image_folder") or "")
    start = Path(str(options["table"])).parent / image_folder
    columns = {
        "image": [Path(path).relative_to(start).as_posix() for path in truth["path"]],
        "label": truth["label_text"],
        "patient": truth["patient_id"],
        "study": truth["study_id"],
        **{key: truth[key] for key in ("view", "domain", "split", "sex", "age_years")},
        "race": [""] * len(truth),
    }
    named = {str(options[key]): values for key, values in columns.items() if options.get(key)}
    for finding in options.get("labels") or ():
        named[str(finding)] = [int(text == finding) for text in truth["label_text"]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(named)
    writer.writerows(zip(*named.values(), strict=True))
    write_text(root / str(options["table"]), text.getvalue())
    mark_phantom(root, "table", truth)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one phantom archive from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", required=True, help="name of the data set in the config")
    parser.add_argument("--options", required=True, help="the data set's config entry, as JSON")
    parser.add_argument("--phantom", required=True, help="size and knobs, as JSON")
    parser.add_argument("--seed", required=True, type=int, help="of patients and pictures")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--out", required=True, type=Path, help=f"the mark, .../{PHANTOM_MARK}")
    given = parser.parse_args(arguments)

    from workflow_scripts.datasets.manifest import parse_options

    options = parse_options(given.options)
    layout = layout_named(str(options["layout"]))
    check_options(layout, options)
    root = _free_folder(given.out)
    draw_row: Any
    if layout.segmentation is not None:
        from workflow_scripts.datasets import volume_phantom

        truth, draw_row, knobs, image_size = volume_phantom.plan_archive(
            layout.name, options, given.phantom, given.seed, given.dataset
        )
    else:
        size, knobs = parse_phantom(given.phantom, layout.name)
        truth, anatomy = sample_truth(options, size, given.seed, given.dataset)
        image_size = size.image_size
        draw_row = functools.partial(
            draw,
            anatomy=anatomy,
            knobs=knobs,
            size=image_size,
            seed=given.seed,
            dataset=given.dataset,
        )
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        write_text(partial / KEEPSAKE, "made by the phantom writer; may be deleted\n")
        write_archive(partial, options, truth, draw_row, max(1, given.jobs))
        made = {"dataset": given.dataset, "seed": given.seed, "knobs": asdict(knobs)}
        mark = read_json(partial / PHANTOM_MARK)
        write_json(partial / PHANTOM_MARK, {**mark, **made, "image_size": image_size})
        shutil.rmtree(root, ignore_errors=True)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log.info("phantom of %s: %d images in %s", given.dataset, len(truth), root)


def _free_folder(mark: Path) -> Path:
    """Return the folder to make, and refuse one that holds anything but an earlier phantom."""
    if mark.name != PHANTOM_MARK:
        raise refuse("--out", f"a path that ends in {PHANTOM_MARK}", str(mark), "correct it")
    root = mark.parent.absolute()
    is_phantom = (root / KEEPSAKE).is_file() or (root / PHANTOM_MARK).is_file()
    if root.is_dir() and any(root.iterdir()) and not is_phantom:
        found = f"{len(list(root.iterdir()))} entries that no phantom writer made"
        raise refuse(str(root), "no folder, or an earlier phantom", found, "choose another folder")
    for leftover in root.parent.glob(f".{root.name}.*.partial"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    return root


if __name__ == "__main__":
    sys.exit(run(main))
