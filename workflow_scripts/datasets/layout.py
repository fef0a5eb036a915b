"""What a data set's layout module offers: read the published archive, write it as a phantom.

A layout is one module of this package with a constant `LAYOUT`; its name is the module's name,
and `layout_named` finds it. Nothing else has to be told about a new one.

Reading
    `LAYOUT.read(root, options) -> Index`: every row of the published index in its order, with
    the label policy applied. No image is opened; a wrong index raises `InputError` with every
    problem and its row. Rows are numbered as a spreadsheet shows them.

Writing
    `LAYOUT.write(root, truth, render, options)`: exactly the published folders, file names, file
    formats and CSV columns, quirks included, and `PHANTOM.json` at the top. `truth` is one row
    an image, in the order of the index file, with the columns `TRUTH_COLUMNS`; more columns are
    the renderer's business. `render(row)` gets all of a row as a dictionary and returns the
    picture; its mode (`L`, `RGB`, `RGBA`) is kept, the file format is the archive's. It is called
    from several threads, so its randomness must come from the row.
    `read(write(truth))` gives `truth` back.

What the truth columns hold (text; `None` or `NaN` where the archive cannot say):

==========  =====================  ===========================  ==============================
column      chestx                 shenzhen                     bach
==========  =====================  ===========================  ==============================
image_id    `00000001_000.png`     `CHNCXR_0001_0.png`          `b001.tif`
path        `images/00000001_...`  `ChinaSet_AllFiles/CXR_png`  `ICIAR2018_BACH_Challenge/
            or `images_001/images  `/CHNCXR_0001_0.png`         Photos/Benign/b001.tif`
            /00000001_000.png`
patient_id  `00000001`             the image_id                 the image_id
study_id    `00000001_000`         the image_id                 the image_id
view        `PA`, `AP` or None     None                         None
sex         `F`, `M` or None       `F`, `M` or None             None
age_years   whole years, or n/12   whole years or NaN           NaN
            below two years
label_text  `Effusion|Mass`,       `normal`, or free text       `Normal`, `Benign`, `InSitu`
            `No Finding`                                        or `Invasive`
split       `train`, `test`: makes None                         None
            the official lists;
            all None: no lists
==========  =====================  ===========================  ==============================

Options of writing: `index` (chestx: `Data_Entry_2017.csv` or `Data_Entry_2017_v2020.csv`;
shenzhen: `shenzhen_metadata.csv` or `shenzhencxr_metadata.csv`), the same key as for reading.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from workflow_scripts.datasets.biased_split import biased_split_problems
from workflow_scripts.files import write_json
from workflow_scripts.problems import InputError, Problem, nearest, refuse

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from workflow_scripts.datasets.segmentation import Segmentation, Volume

Options = Mapping[str, Any]
Render = Callable[[dict[str, Any]], "Image"]
RenderVolume = Callable[[dict[str, Any]], "Volume"]  # of a layout with `segmentation`

PHANTOM_MARK = "PHANTOM.json"  # at the top of a folder that a phantom writer made
COMMON_OPTIONS = {
    "layout": "name of the layout",
    "root": "the data set's folder below data_root",
    "label_policy": "one of the layout's label policies",
    "split_policy": "official (of the archive), drawn (by patient), test_only or biased",
    "split_fractions": "share of the patients in train, val and test when the split is drawn",
    "val_fraction": "share of the official training patients that is put aside for validation",
    "biased_split": "what a biased split is drawn with; see biased_split.py",
    "title": "what the report calls the data set",
    "licence": "licence of the data",
    "access": "who may have them and how",
    "source": "where they come from",
    "citation": "what to cite",
    "metric": "accuracy, mean_per_class_accuracy or dice",
    "grid": "working grid of a segmentation data set, a name in datasets/volumes.py",
    "phantom": "what the phantom writer needs to know; the readers pass it by",
}
METRICS = ("accuracy", "mean_per_class_accuracy", "dice")
SPLIT_POLICIES = ("official", "drawn", "test_only", "biased")
TRUTH_COLUMNS = (
    "image_id",
    "path",
    "patient_id",
    "study_id",
    "view",
    "sex",
    "age_years",
    "label_text",
    "split",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What the published index says, before any image was opened.

    Attributes:
        table: one row an image of the index, in its order: `TRUTH_COLUMNS`, `domain`, `race`,
            `label` (nullable integer) or `label_{finding}` (1, 0, NaN), `row` (number in the
            index file) and `dropped` (None, or the filter of the label policy that took it out).
        classes: class names in label order, or the findings of a multi-label task.
        filters: the filters of the label policy in the order in which they work.
        index_files: the files read, relative to the data set's folder.
        split_policy: where `split` comes from; None when it has to be drawn by patient.
        patients_known: False when `patient_id` only repeats the image.
        unknown: how many rows had a value that had to become unknown, by reason.
        doubts: how many labels something else in the archive contradicts, by what it is.
        released_lists: the paper's cross-validation lists: name to split to patients in order;
            a patient may stand in two splits of a list.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    filters: tuple[str, ...]
    index_files: tuple[str, ...]
    split_policy: str | None = None
    patients_known: bool = True
    unknown: Mapping[str, int] = field(default_factory=dict)
    doubts: Mapping[str, int] = field(default_factory=dict)
    released_lists: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A published archive (or a user's own table): its facts, its reader and its writer.

    Attributes:
        name: the module's name; `layout:` of a config entry.
        title, licence, access, source, citation: for the card and for whom data are missing.
        unpack: what belongs where below the data set's folder.
        metric: `accuracy`, `mean_per_class_accuracy` or `dice`, the paper's for this data set.
        geometry_released: few-shot preprocessing of the released code; None where it had none.
        has_released_split: whether the released code splits this data set.
        modes: Pillow modes an image may have; others would lose pixels on the way to RGB.
        policies: label policies by name, with their meaning; the first is the default.
        options: further keys of a config entry, with their meaning.
        choices: the values that an option may have, where they are few.
        bit_depth: range of gray images deeper than 8 bits; see `geometry.prepare`.
        read: `read(root, options) -> Index`.
        write: `write(root, truth, render, options)`; None for a user's own table.
        segmentation: what its masks mean; None where images have labels instead.
        patients: name space of `patient_id` where several folders show the same people.
    """

    name: str
    title: str
    licence: str
    access: str
    source: str
    citation: str
    unpack: str
    metric: str
    geometry_released: str | None
    has_released_split: bool
    modes: frozenset[str]
    policies: Mapping[str, str]
    options: Mapping[str, str]
    read: Callable[[Path, Options], Index]
    write: Callable[[Path, pd.DataFrame, Any, Options], None] | None
    segmentation: Segmentation | None = None
    patients: str | None = None
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    bit_depth: int | Literal["stretch"] | None = None

    def policy(self, options: Options) -> str:
        """Return the label policy that `options` choose; `check_options` has judged it."""
        return str(options.get("label_policy") or next(iter(self.policies)))


def check_options(layout: Layout, options: Options) -> None:
    """Refuse a config entry with a key or value that its layout does not know.

    Raises:
        InputError: every such key, with the nearest valid one.
    """
    known = [*COMMON_OPTIONS, *layout.options]
    problems = [
        Problem(f"option {key}", f"an option of layout {layout.name}", "none", nearest(key, known))
        for key in options
        if key not in known
    ]
    choices = {
        "label_policy": tuple(layout.policies),
        "split_policy": SPLIT_POLICIES,
        "metric": METRICS,
        **layout.choices,
    }
    problems += [
        Problem(
            f"option {key}",
            f"one of {', '.join(names)}",
            repr(options[key]),
            nearest(str(options[key]), list(names)),
        )
        for key, names in choices.items()
        if options.get(key) is not None and options[key] not in names
    ]
    fractions = options.get("split_fractions")
    if fractions is not None and not _are_fractions(fractions):
        expected = "positive shares of train, test and perhaps val that sum to 1"
        advice = "write {train: 0.8, test: 0.2}"
        problems.append(Problem("option split_fractions", expected, repr(fractions), advice))
    share = options.get("val_fraction")
    if share is not None and not (type(share) in (int, float) and 0 < share < 1):
        expected, advice = "a share between 0 and 1", "write 0.1, or leave it out"
        problems.append(Problem("option val_fraction", expected, repr(share), advice))
    problems += biased_split_problems(options)
    if problems:
        raise InputError(problems)


def _are_fractions(value: object) -> bool:
    """Return whether `value` maps splits, train and test among them, to shares of 1."""
    return (
        isinstance(value, Mapping)
        and {"train", "test"} <= set(value) <= {"train", "val", "test"}
        and all(type(share) in (int, float) and share > 0 for share in value.values())
        and abs(sum(value.values()) - 1) < 1e-9  # rounding of decimal shares
    )


def layout_names() -> list[str]:
    """Return the names of all layouts: the modules of this package with a `LAYOUT`."""
    package = importlib.import_module(__package__ or "workflow_scripts.datasets")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(
        name
        for name in names
        if hasattr(importlib.import_module(f"{package.__name__}.{name}"), "LAYOUT")
    )


def layout_named(name: str) -> Layout:
    """Return the layout of the module `name`.

    Raises:
        InputError: no module of that name offers one; names the nearest that does.

    >>> layout_named("bach").metric
    'accuracy'
    """
    module_name = f"{__package__}.{name}"
    if name.isidentifier() and importlib.util.find_spec(module_name) is not None:
        layout = getattr(importlib.import_module(module_name), "LAYOUT", None)
        if isinstance(layout, Layout):
            return layout
    names = layout_names()
    raise refuse("option layout", f"one of {', '.join(names)}", repr(name), nearest(name, names))


def is_phantom(root: Path) -> bool:
    """Return whether a phantom writer made the folder `root`."""
    return (root / PHANTOM_MARK).is_file()


def mark_phantom(root: Path, layout: str, truth: pd.DataFrame) -> None:
    """Put the mark into `root` that makes everything made from it say *phantom*.

    A writer calls it first and writes the index last: a phantom that was cut short is never taken
    for an archive.
    """
    patients = int(truth["patient_id"].nunique())
    content = {"phantom": True, "layout": layout, "images": len(truth), "patients": patients}
    write_json(root / PHANTOM_MARK, content)


def write_images(root: Path, truth: pd.DataFrame, render: Render) -> None:
    """Render each row of `truth` to its `path` below `root`, on all cores."""

    def write_one(row: dict[str, Any]) -> None:
        path = root / PurePosixPath(row["path"])
        render(row).save(path)

    for folder in {str(PurePosixPath(path).parent) for path in truth["path"]}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for _ in pool.map(write_one, truth.to_dict("records")):
            pass


def truth_records(truth: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of `truth` with `None` wherever something is unknown."""
    known = truth.astype(object).where(truth.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in known.to_dict("records")]


def years_text(age_years: float | None) -> str:
    """Return an age as most indices write it; nothing where it is unknown."""
    return "" if age_years is None else f"{age_years:g}"


def row_problem(file: str, row: int, expected: str, found: object, next_step: str) -> Problem:
    """Return the problem of one row of an index file."""
    return Problem(f"{file} row {row}", expected, repr(found), next_step)
