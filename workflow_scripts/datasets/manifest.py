"""Make a data set's manifest, card and quarantine from its published archive.

The index is read with its label policy, every file is read once for its hash and its structure,
what cannot be used is set aside with the reason, and the rest is split by patient.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts.command_line import run
from workflow_scripts.datasets.biased_split import (
    biased_split_of,
    cell_counts,
    draw_biased,
    require_two_classes,
)
from workflow_scripts.datasets.file_checks import check_all
from workflow_scripts.datasets.layout import (
    Index,
    Layout,
    Options,
    check_options,
    is_phantom,
    layout_named,
)
from workflow_scripts.datasets.splits import (
    FRACTIONS,
    draw_by_patient,
    join_identical_files,
    refuse_idle_shares,
    released_split,
)
from workflow_scripts.files import void, write_atomic, write_json
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.randomness import named_rng

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


TEXTS = ("image_id", "path", "sha256", "patient_id", "study_id", "view", "domain", "split")
ATTRIBUTES = ("sex", "age_years", "race")
NEED = "see the label policy and the files, or give another split"
MOST_MISSING = 0.5  # ours: beyond it the archive is taken for not unpacked
EXAMPLES = 5  # identical files shown in the card


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the three files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dataset", required=True, help="name of the data set in the config")
    parser.add_argument("--options", required=True, help="the data set's config entry, as JSON")
    parser.add_argument("--root", required=True, type=Path, help="the data set's folder")
    parser.add_argument("--seed", required=True, type=int, help="seed of the drawn split")
    parser.add_argument("--jobs", type=int, default=1, help="processes that check files")
    parser.add_argument("--cache", type=Path, help="what is known of files already checked")
    parser.add_argument("--manifest", required=True, type=Path, help="Parquet file to write")
    parser.add_argument("--card", required=True, type=Path, help="JSON file to write")
    parser.add_argument("--quarantine", required=True, type=Path, help="CSV file to write")
    args = parser.parse_args(arguments)
    options = parse_options(args.options)
    table, card, quarantine = build(
        args.dataset, options, args.root, args.seed, args.jobs, args.cache
    )
    write_atomic(args.quarantine, lambda path: quarantine.to_csv(path, index=False))
    write_json(args.card, card)
    write_manifest(args.manifest, table, card, options)


def parse_options(text: str) -> dict[str, Any]:
    """Return the config entry given as JSON."""
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise refuse("--options", "a JSON object", f"{text[:80]!r} ({error})", "quote it") from None
    if not isinstance(options, dict) or not isinstance(options.get("layout"), str):
        advice = "give the data set's config entry, such as {'layout': 'bach'}"
        raise refuse("--options", "a JSON object with a layout", text[:80], advice)
    return options


def build(
    dataset: str, options: Options, root: Path, seed: int, jobs: int, cache: Path | None = None
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Return manifest, card and quarantine of the data set below `root`.

    Files that `cache` knows and that have not changed since are not read again.

    Raises:
        InputError: the folder is absent, the options or the index are wrong, most of the
            published images are missing, nothing is left, or no split can be drawn.
    """
    layout = layout_named(str(options["layout"]))
    check_options(layout, options)
    require_folder(layout, root, options)
    if layout.segmentation is not None:
        from workflow_scripts.datasets import volume_manifest

        return volume_manifest.build(
            dataset, layout, layout.segmentation, options, root, seed, jobs
        )
    index = layout.read(root, options)
    rows = index.table
    if layout.has_released_split and "split_released" not in rows:
        rows = rows.join(released_split(len(rows)))
    kept = rows[rows["dropped"].isna()]
    checked = kept.join(check_all(root, kept["path"], layout, jobs, cache))
    refused = checked[checked["reason"].notna()]
    require_most_files(layout, root, checked, options)
    usable = checked[checked["reason"].isna()]
    if usable.empty:
        found = f"none of {len(rows)} rows"
        if len(refused):
            first = refused.iloc[0]
            found += f"; the first file, {first['path']}: {first['reason']}"
        advice = "see the label policy and the files"
        raise refuse(f"data set {dataset}", "one usable image", found, advice)
    split, split_policy = sound_split(index, usable, options, dataset, seed)
    table = order_columns(usable.assign(split=split)[split.notna()], index.classes)
    require_both_ends(dataset, table, options)
    card = {
        **facts(dataset, layout, options),
        "classes": list(index.classes),
        "index_files": list(index.index_files),
        "split_policy": split_policy,
        "patients_known": index.patients_known,
        "seed": seed,
        "phantom": is_phantom(root),
        "flow": patient_flow(index, checked, usable, table),
        "counts": counts(table, index.classes),
        **biased_cells(table, options),
        "quarantined": dict(sorted(Counter(refused["reason"]).items())),
        "unknown": dict(index.unknown),
        "doubts": {name: n for name, n in index.doubts.items() if n},
        "identical_files": identical_files(table),
    }
    quarantine = refused[["image_id", "path", "reason"]].sort_values("image_id")
    return table, card, quarantine


def biased_cells(table: pd.DataFrame, options: Options) -> dict[str, Any]:
    """Return the images of each cell of a biased split, for the card; nothing for other splits."""
    if options.get("split_policy") != "biased":
        return {}
    chosen = biased_split_of(options)
    return {"biased_split": asdict(chosen), "cells": cell_counts(table, chosen.attribute)}


def require_folder(layout: Layout, root: Path, options: Options) -> None:
    """Refuse a data set that is not there, and say how to get it."""
    if not root.is_dir():
        raise refuse(
            str(root), f"the data of {layout.title}", "no such folder", how_to_get(layout, options)
        )


def how_to_get(layout: Layout, options: Options) -> str:
    """Return where the data come from and what to unpack where."""
    if layout.write is None:  # a user's own; the entry may name its source
        come_from = f"get the data at {options['source']} and " if "source" in options else ""
        return f"{come_from}put there: {layout.unpack}"
    return f"get the data at {layout.source} ({layout.access}) and unpack: {layout.unpack}"


def require_most_files(layout: Layout, root: Path, checked: pd.DataFrame, options: Options) -> None:
    """Refuse a published archive of which most images are not there."""
    from workflow_scripts.datasets.integrity import MISSING

    n_missing = int((checked["reason"] == MISSING).sum())
    if n_missing > MOST_MISSING * len(checked):
        found = f"{n_missing} of {len(checked)} missing, such as {checked['path'].iloc[0]}"
        raise refuse(str(root), "the images of the index", found, how_to_get(layout, options))


def sound_split(
    index: Index, table: pd.DataFrame, options: Options, dataset: str, seed: int
) -> tuple[pd.Series, str]:
    """Return the split of each image of `table` (None: not drawn), and where it comes from.

    A drawn split covers all patients of the index, so that neither the label policy nor a damaged
    file moves anybody else, nor does it differ between two data sets made from one folder;
    patients who share an identical file are kept together.
    """
    import pandas as pd

    policy, folder = options.get("split_policy"), folder_name(dataset, options)
    refuse_idle_shares(index, options)
    if policy == "test_only":
        return pd.Series("test", index=table.index, dtype=object), "all are test"
    if policy == "biased":
        return _biased_split(table, options, dataset, seed)
    if index.split_policy is not None and policy != "drawn":
        return _with_validation(index, table, options, named_rng(seed, "validation", folder))
    if policy == "official":
        raise refuse(
            "option split_policy",
            "an archive with an official split",
            f"none in layout {options['layout']}",
            "set split_policy: drawn",
        )
    fractions = options.get("split_fractions") or FRACTIONS
    patients = index.table["patient_id"]
    if patients.nunique() < len(fractions):
        expected = f"{len(fractions)} patients or more, to draw a split"
        advice = "name the right patient column, or give a split column"
        raise refuse(f"data set {dataset}", expected, f"{patients.nunique()}", advice)
    drawn = draw_by_patient(patients, fractions, named_rng(seed, "split", folder))
    split = join_identical_files(drawn[table.index], table["patient_id"], table["sha256"])
    shares = ", ".join(f"{name} {share:g}" for name, share in fractions.items())
    return split, f"drawn by patient, {shares}"


def _with_validation(
    index: Index, table: pd.DataFrame, options: Options, rng: np.random.Generator
) -> tuple[pd.Series, str]:
    """Return the official split, with some of its training patients put aside for validation."""
    policy = str(index.split_policy)
    share = options.get("val_fraction")
    if share is None:
        return table["split"], policy
    rows = index.table
    patients = rows["patient_id"][rows["split"] == "train"]
    if patients.nunique() < 2:
        expected, advice = "two training patients or more, to part", "leave option val_fraction out"
        raise refuse("option val_fraction", expected, f"{patients.nunique()}", advice)
    drawn = draw_by_patient(patients, {"train": 1 - share, "val": share}, rng)
    train = table[table["split"] == "train"]
    joined = join_identical_files(drawn[train.index], train["patient_id"], train["sha256"])
    split = table["split"].copy()
    split[train.index] = joined
    return split, f"{policy}; {share:g} of the training patients drawn for validation"


def _biased_split(
    table: pd.DataFrame, options: Options, dataset: str, seed: int
) -> tuple[pd.Series, str]:
    """Return a split of the stated bias; images that share a file count once."""
    chosen = biased_split_of(options)
    require_two_classes(dataset, table, chosen.attribute)
    rng = named_rng(seed, "biased split", folder_name(dataset, options))
    distinct = table[~table["sha256"].duplicated()]
    split = draw_biased(distinct, chosen, rng).reindex(table.index).astype(object)
    split = split.where(split.notna(), None)
    return split, f"drawn by patient, {chosen.bias:g} of training aligned with {chosen.attribute}"


def folder_name(dataset: str, options: Options) -> str:
    """Return what names the patients' folder: the option `root`, else the data set's name."""
    return str(options.get("root") or dataset)


def require_both_ends(dataset: str, table: pd.DataFrame, options: Options) -> None:
    """Refuse a manifest with nothing to train on (unless it is test only), or to test with."""
    needed = ("test",) if options.get("split_policy") == "test_only" else ("train", "test")
    problems = [
        Problem(f"data set {dataset}", f"images in split {split}", "none", NEED)
        for split in needed
        if not (table["split"] == split).any()
    ]
    if problems:
        raise InputError(problems)


def order_columns(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return the contract's columns in the contract's order and types, sorted by image."""
    released = [name for name in ("split_released", "order_released") if name in table]
    labels = ["label"] if "label" in table else [f"label_{name}" for name in classes]
    table = table[[*TEXTS, *released, *labels, *ATTRIBUTES]]
    table = table.sort_values("image_id", kind="stable", ignore_index=True)
    return table.astype({"label": "int64"}) if "label" in table else table


def facts(dataset: str, layout: Layout, options: Options) -> dict[str, Any]:
    """Return what the card says about the archive; the config entry may say it better."""
    described = ("title", "licence", "access", "source", "citation")
    return {
        "dataset": dataset,
        "layout": layout.name,
        **{key: options.get(key) or getattr(layout, key) for key in described},
        "label_policy": layout.policy(options),
        "metric": options.get("metric") or layout.metric,
        "geometry_released": layout.geometry_released,
    }


def patient_flow(
    index: Index, checked: pd.DataFrame, usable: pd.DataFrame, table: pd.DataFrame
) -> list[dict[str, Any]]:
    """Return images and patients left after each filter, from the index to the manifest."""
    from workflow_scripts.datasets.integrity import MISSING

    rows = index.table
    steps = [(f"rows of {index.index_files[0]}", rows)]
    for name in index.filters:
        rows = rows[rows["dropped"] != name]
        steps.append((f"with {name}", rows))
    steps.append(("file present", checked[checked["reason"] != MISSING]))
    steps.append(("file whole, in an allowed mode", usable))
    if len(table) < len(usable):
        steps.append(("drawn for the split", table))
    return [
        {"step": step, "images": len(left), "patients": int(left["patient_id"].nunique())}
        for step, left in steps
    ]


def counts(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return split -> images, patients, and the same by class; classes may overlap in patients."""

    def size(rows: pd.DataFrame) -> dict[str, Any]:
        return {"images": len(rows), "patients": int(rows["patient_id"].nunique())}

    def of_class(rows: pd.DataFrame, code: int, name: str) -> pd.DataFrame:
        return rows[rows["label"] == code if "label" in rows else rows[f"label_{name}"] == 1]

    return {
        str(split): size(rows)
        | {"classes": {name: size(of_class(rows, i, name)) for i, name in enumerate(classes)}}
        for split, rows in table.groupby("split", sort=True)
    }


def identical_files(table: pd.DataFrame) -> dict[str, Any]:
    """Return how many images repeat another's bytes, and some of them."""
    again = table[table["sha256"].duplicated(keep=False)]
    groups = again.groupby("sha256", sort=True)["image_id"].apply(list).tolist()
    return {"images": len(again) - len(groups), "examples": groups[:EXAMPLES]}


def write_manifest(path: Path, table: pd.DataFrame, card: dict[str, Any], options: Options) -> None:
    """Write the manifest with, in its metadata, what the leak certificate has to know.

    `patients` is the name space of `patient_id`: two data sets made from the same folder by the
    same layout speak of the same patients.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.Table.from_pandas(table, schema=schema_of(table), preserve_index=False)
    about = {
        "dataset": card["dataset"],
        "patients": patient_names(card, options),
        "patients_known": card["patients_known"],
        "phantom": card["phantom"],
    }
    content = content.replace_schema_metadata({"steadfast": json.dumps(about)})
    write_atomic(path, lambda partial: void(pq.write_table(content, partial, compression="zstd")))


def patient_names(card: dict[str, Any], options: Options) -> str:
    """Return the name space of a manifest's patients."""
    shared = options.get("content") or layout_named(card["layout"]).patients
    return str(shared or f"{card['layout']}:{folder_name(card['dataset'], options)}")


def schema_of(table: pd.DataFrame) -> pa.Schema:
    """Return the Parquet schema of the contract for the columns of `table`."""
    import pyarrow as pa

    def type_of(name: str) -> pa.DataType:
        if name in ("label", "order_released", "frame_index", "slices", "rows", "columns"):
            return pa.int64()
        is_number = name.startswith(("label_", "spacing_")) or name == "age_years"
        return pa.float64() if is_number else pa.string()

    return pa.schema([(name, type_of(name)) for name in table.columns])


if __name__ == "__main__":
    sys.exit(run(main))
