"""Make a data set's manifest, card and quarantine from its published archive.

The index is read with its label policy, every file is read once for its hash and its structure,
what cannot be used is set aside with the reason, and the rest is split by patient.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts.command_line import run
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
    released_split,
)
from workflow_scripts.files import void, write_atomic, write_json
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.randomness import named_rng

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from workflow_scripts.datasets.integrity import FileVerdict

TEXTS = ("image_id", "path", "sha256", "patient_id", "study_id", "view", "domain", "split")
ATTRIBUTES = ("sex", "age_years", "race")
NEED = dict.fromkeys(("train", "test"), "see card and quarantine, or give another split")
CHUNK = 256  # files a worker process checks at a time
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
    parser.add_argument("--manifest", required=True, type=Path, help="Parquet file to write")
    parser.add_argument("--card", required=True, type=Path, help="JSON file to write")
    parser.add_argument("--quarantine", required=True, type=Path, help="CSV file to write")
    args = parser.parse_args(arguments)
    options = parse_options(args.options)
    table, card, quarantine = build(args.dataset, options, args.root, args.seed, args.jobs)
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
    dataset: str, options: Options, root: Path, seed: int, jobs: int
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Return manifest, card and quarantine of the data set below `root`.

    Raises:
        InputError: the folder is absent, the options or the index are wrong, most of the
            published images are missing, nothing is left, or no split can be drawn.
    """
    layout = layout_named(str(options["layout"]))
    check_options(layout, options)
    require_folder(layout, root)
    index = layout.read(root, options)
    rows = index.table
    if layout.has_released_split and "split_released" not in rows:
        rows = rows.join(released_split(len(rows)))
    kept = rows[rows["dropped"].isna()]
    checked = kept.join(check_all(root, kept["path"], layout, jobs))
    refused = checked[checked["reason"].notna()]
    require_most_files(layout, root, checked)
    table = checked[checked["reason"].isna()]
    if table.empty:
        advice = "see the label policy and the files"
        raise refuse(f"data set {dataset}", "one usable image", "none", advice)
    split, split_policy = sound_split(index, table, options, dataset, seed)
    table = order_columns(table.assign(split=split), index.classes)
    require_both_ends(dataset, table)
    card = {
        **facts(dataset, layout, options),
        "classes": list(index.classes),
        "index_files": list(index.index_files),
        "split_policy": split_policy,
        "patients_known": index.patients_known,
        "seed": seed,
        "phantom": is_phantom(root),
        "flow": patient_flow(index, checked, table),
        "counts": counts(table, index.classes),
        "quarantined": dict(sorted(Counter(refused["reason"]).items())),
        "unknown": dict(index.unknown),
        "identical_files": identical_files(table),
    }
    quarantine = refused[["image_id", "path", "reason"]].sort_values("image_id")
    return table, card, quarantine


def require_folder(layout: Layout, root: Path) -> None:
    """Refuse a data set that is not there, and say how to get it."""
    if not root.is_dir():
        raise refuse(str(root), f"the data of {layout.title}", "no such folder", how_to_get(layout))


def how_to_get(layout: Layout) -> str:
    """Return where the data come from and what to unpack where."""
    if layout.write is None:  # a user's own
        return f"put there: {layout.unpack}"
    return f"get the data at {layout.source} ({layout.access}) and unpack: {layout.unpack}"


def require_most_files(layout: Layout, root: Path, checked: pd.DataFrame) -> None:
    """Refuse a published archive of which most images are not there."""
    from workflow_scripts.datasets.integrity import MISSING

    n_missing = int((checked["reason"] == MISSING).sum())
    if n_missing > MOST_MISSING * len(checked):
        found = f"{n_missing} of {len(checked)} missing, such as {checked['path'].iloc[0]}"
        raise refuse(str(root), "the images of the index", found, how_to_get(layout))


def check_all(root: Path, paths: pd.Series, layout: Layout, jobs: int) -> pd.DataFrame:
    """Return `sha256` and `reason` (None: usable) of each file, with a progress bar."""
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial

    import pandas as pd
    from tqdm import tqdm

    from workflow_scripts.datasets.integrity import check_files

    chunks = [paths.iloc[i : i + CHUNK].tolist() for i in range(0, len(paths), CHUNK)]
    check = partial(check_files, root, modes=layout.modes)
    verdicts: list[FileVerdict] = []
    with tqdm(total=len(paths), desc="checking files", unit="file", file=sys.stderr) as bar:

        def collect(results: Iterable[list[FileVerdict]]) -> None:
            for chunk in results:
                verdicts.extend(chunk)
                bar.update(len(chunk))

        if jobs <= 1 or len(chunks) <= 1:
            collect(map(check, chunks))
        else:
            with ProcessPoolExecutor(max_workers=min(jobs, len(chunks))) as pool:
                collect(pool.map(check, chunks))
    frame = pd.DataFrame(verdicts, columns=["sha256", "reason"], index=paths.index, dtype=object)
    return frame.where(frame.notna(), None)


def sound_split(
    index: Index, table: pd.DataFrame, options: Options, dataset: str, seed: int
) -> tuple[pd.Series, str]:
    """Return the split of each image of `table`, and where it comes from.

    A drawn split covers all patients of the index, so that neither the label policy nor a damaged
    file moves anybody else, nor does it differ between two data sets made from one folder;
    patients who share an identical file are kept together.
    """
    if index.split_policy is not None and options.get("split_policy") != "drawn":
        return table["split"], index.split_policy
    if options.get("split_policy") == "official":
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
    rng = named_rng(seed, "split", folder_name(dataset, options))
    drawn = draw_by_patient(patients, fractions, rng)
    split = join_identical_files(drawn[table.index], table["patient_id"], table["sha256"])
    shares = ", ".join(f"{name} {share:g}" for name, share in fractions.items())
    return split, f"drawn by patient, {shares}"


def folder_name(dataset: str, options: Options) -> str:
    """Return what names the patients' folder: the option `root`, else the data set's name."""
    return str(options.get("root") or dataset)


def require_both_ends(dataset: str, table: pd.DataFrame) -> None:
    """Refuse a manifest with nothing to train on, or nothing to test with."""
    problems = [
        Problem(f"data set {dataset}", f"images in split {split}", "none", advice)
        for split, advice in NEED.items()
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


def patient_flow(index: Index, checked: pd.DataFrame, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return images and patients left after each filter, from the index to the manifest."""
    from workflow_scripts.datasets.integrity import MISSING

    rows = index.table
    steps = [(f"rows of {index.index_files[0]}", rows)]
    for name in index.filters:
        rows = rows[rows["dropped"] != name]
        steps.append((f"with {name}", rows))
    steps.append(("file present", checked[checked["reason"] != MISSING]))
    steps.append(("file whole, in an allowed mode", table))
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
        "patients": f"{card['layout']}:{folder_name(card['dataset'], options)}",
        "patients_known": card["patients_known"],
        "phantom": card["phantom"],
    }
    content = content.replace_schema_metadata({"steadfast": json.dumps(about)})
    write_atomic(path, lambda partial: void(pq.write_table(content, partial, compression="zstd")))


def schema_of(table: pd.DataFrame) -> pa.Schema:
    """Return the Parquet schema of the contract for the columns of `table`."""
    import pyarrow as pa

    def type_of(name: str) -> pa.DataType:
        if name in ("label", "order_released"):
            return pa.int64()
        return pa.float64() if name.startswith("label_") or name == "age_years" else pa.string()

    return pa.schema([(name, type_of(name)) for name in table.columns])


if __name__ == "__main__":
    sys.exit(run(main))
