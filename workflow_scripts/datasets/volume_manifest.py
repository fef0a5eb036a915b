"""The manifest of a segmentation data set: one row a volume (patient and frame) or a lesion.

`manifest` hands over to `build` when the layout has masks. The steps are those of an image data
set; what is judged is image and mask together, and the card says what the labels mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts.datasets.layout import Index, Layout, Options, is_phantom
from workflow_scripts.datasets.manifest import (
    TEXTS,
    facts,
    require_most_files,
    sound_split,
)
from workflow_scripts.datasets.segmentation import SEGMENTATION_COLUMNS, Segmentation
from workflow_scripts.datasets.volume_files import VolumeVerdict, check_rows
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.progress import progress

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 8  # rows a worker process checks at a time; both frames of a patient in one
ATTRIBUTES = ("sex", "age_years", "race")
PAIR_MISSING = ("file not found", "mask: file not found")
LIST_PREFIX = "split_released_"  # a column for each of the paper's lists
BOTH = "+"  # `train+val`: a released list has the patient in both


def build(
    dataset: str,
    layout: Layout,
    segmentation: Segmentation,
    options: Options,
    root: Path,
    seed: int,
    jobs: int,
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Return manifest, card and quarantine; see `manifest.build`.

    Raises:
        InputError: the index is wrong, most files are missing, nothing is left, the sound split
            leaves nothing to train on or to test with.
    """
    index = layout.read(root, options)
    rows = index.table
    kept = rows[rows["dropped"].isna()]
    if kept.empty:
        raise refuse(f"data set {dataset}", "one row with a mask", "none", "see the options")
    checked = kept.join(check_all(root, kept, segmentation, layout.modes, jobs))
    refused = checked[checked["reason"].notna()]
    require_most_files(layout, root, checked, options)
    table = checked[checked["reason"].isna()]
    if table.empty:
        found = f"none; first reason: {refused['reason'].iloc[0]}"
        raise refuse(f"data set {dataset}", "one usable volume", found, "see the files")
    split, split_policy = volume_split(index, table, options, dataset, seed)
    table = with_lists(table.assign(split=split), index.released_lists)
    table = order_columns(table)
    require_ends(dataset, table, options)
    card = {
        **facts(dataset, layout, options),
        "classes": list(index.classes),
        "label_map": {str(value): code for value, code in segmentation.label_map.items()},
        "index_files": list(index.index_files),
        "split_policy": split_policy,
        "released_lists": {
            name: {split: list(names) for split, names in splits.items()}
            for name, splits in index.released_lists.items()
        },
        "patients_known": index.patients_known,
        "seed": seed,
        "phantom": is_phantom(root),
        "flow": volume_flow(index, checked, table),
        "counts": counts(table),
        "quarantined": dict(sorted(Counter(refused["reason"]).items())),
        "flagged": dict(sorted(Counter(table["flags"].dropna()).items())),
        "unknown": dict(index.unknown),
    }
    quarantine = refused[["image_id", "path", "reason"]].sort_values("image_id")
    return table, card, quarantine


def check_all(
    root: Path, rows: pd.DataFrame, facts: Segmentation, modes: frozenset[str], jobs: int
) -> pd.DataFrame:
    """Return a `VolumeVerdict` a row, with progress."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    import pandas as pd

    records = rows.to_dict("records")
    chunks = [records[first : first + CHUNK] for first in range(0, len(records), CHUNK)]
    check = partial(check_rows, root, facts=facts, modes=modes)

    def shown(results: Iterable[list[VolumeVerdict]]) -> list[VolumeVerdict]:
        verdicts = (verdict for chunk in results for verdict in chunk)
        return list(progress(verdicts, len(records), "check volumes", "volumes"))

    if jobs <= 1 or len(chunks) <= 1:
        verdicts = shown(map(check, chunks))
    else:
        # Fresh processes: forking one in which other libraries have started threads can hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(jobs, len(chunks)), mp_context=context) as pool:
            verdicts = shown(pool.map(check, chunks))
    frame = pd.DataFrame(verdicts, index=rows.index)
    texts = ["sha256", "mask_sha256", "orientation", "flags", "reason"]
    frame[texts] = frame[texts].astype(object).where(frame[texts].notna(), None)
    return frame


def volume_split(
    index: Index, table: pd.DataFrame, options: Options, dataset: str, seed: int
) -> tuple[pd.Series, str]:
    """Return the sound split of each row and where it comes from.

    A patient whom a list of the archive does not know (phantoms, later releases) is refused
    rather than put somewhere.
    """
    import pandas as pd

    if options.get("split_policy") == "test_only":
        return pd.Series("test", index=table.index, dtype=object), "every patient is for testing"
    split, policy = sound_split(index, table, options, dataset, seed)
    unknown = sorted(table.loc[split.isna(), "patient_id"].unique())
    if unknown:
        expected = f"patients with a place in the split ({policy})"
        advice = "set split_policy: drawn, or use the published numbers"
        raise refuse(f"data set {dataset}", expected, ", ".join(unknown[:5]), advice)
    return split, policy


def with_lists(table: pd.DataFrame, lists: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Add a column for each released list: `train`, `val`, `test`, `train+val`, or None."""
    columns: dict[str, Any] = {}
    for name, splits in lists.items():
        places: dict[str, list[str]] = {}
        for split, patients in splits.items():
            for patient in patients:
                places.setdefault(patient, []).append(split)
        joined = {patient: BOTH.join(found) for patient, found in places.items()}
        columns[LIST_PREFIX + name] = [joined.get(patient) for patient in table["patient_id"]]
    return table.assign(**columns)


def order_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return the contract's columns in the contract's order, sorted by image."""
    released = [name for name in table if str(name).startswith("split_released")]
    measured = [n for n in VolumeVerdict._fields if n not in ("sha256", "reason")]
    columns = [*TEXTS, *released, *SEGMENTATION_COLUMNS, *measured, *ATTRIBUTES]
    return table[columns].sort_values("image_id", kind="stable", ignore_index=True)


def require_ends(dataset: str, table: pd.DataFrame, options: Options) -> None:
    """Refuse a manifest with nothing to test with, or nothing to train on where it should."""
    needed: Sequence[str] = ("train", "test")
    if set(table["split"]) == {"test"}:
        needed = ("test",)  # a data set for testing only
    problems = [
        Problem(f"data set {dataset}", f"volumes in split {split}", "none", "see the quarantine")
        for split in needed
        if not (table["split"] == split).any()
    ]
    if problems:
        raise InputError(problems)


def volume_flow(index: Index, checked: pd.DataFrame, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return volumes and patients left after each filter, from the index to the manifest."""
    rows = index.table
    steps = [("rows of the index", rows)]
    for name in index.filters:
        rows = rows[rows["dropped"] != name]
        steps.append((f"with {name}", rows))
    steps.append(("image and mask present", checked[~checked["reason"].isin(PAIR_MISSING)]))
    steps.append(("image and mask sound", table))
    return [
        {"step": step, "images": len(left), "patients": int(left["patient_id"].nunique())}
        for step, left in steps
    ]


def counts(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return split -> volumes, slices and patients, and volumes by group, vendor and domain."""
    return {
        str(split): {
            "images": len(rows),
            "slices": int(rows["slices"].sum()),
            "patients": int(rows["patient_id"].nunique()),
            **{
                key: {
                    str(name): int(n) for name, n in rows[key].value_counts().sort_index().items()
                }
                for key in ("group", "vendor", "domain")
            },
        }
        for split, rows in table.groupby("split", sort=True)
    }
