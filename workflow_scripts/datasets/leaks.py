"""Certify that no patient and no file is in two splits, within and across data sets.

Patients are told apart by data set, except where two manifests were made from the same folder by
the same layout. `split` that leaks is refused; `split_released` that leaks is written down. A data
set without a released split (such as corrupted copies of test patients) takes part with `split`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts.command_line import run
from workflow_scripts.files import sha256_of, write_json
from workflow_scripts.problems import InputError, Problem, refuse

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "split"  # the sound one; `split_released` and `split_released_{list}` beside it
EXAMPLES = 10  # leaks shown a kind


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the certificate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--manifests", required=True, type=Path, nargs="+", help="manifests used together"
    )
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    args = parser.parse_args(arguments)
    write_json(args.out, certify(args.manifests))


def certify(manifests: Sequence[Path]) -> dict[str, Any]:
    """Return the certificate of manifests that are used together.

    Raises:
        InputError: `split` parts a patient, or puts identical files into two splits.
    """
    import pandas as pd

    parts = [read_part(path) for path in manifests]
    released = {str(name) for rows, _ in parts for name in rows if str(name).startswith(COLUMN)}
    filled = [
        rows.assign(**dict.fromkeys(sorted(released - set(map(str, rows))), rows[COLUMN]))
        for rows, _ in parts
    ]
    images = pd.concat(filled, ignore_index=True)
    scope = {
        "manifests": {
            about["dataset"]: sha256_of(path)
            for path, (_, about) in zip(manifests, parts, strict=True)
        },
        "patients_known": {about["dataset"]: about["patients_known"] for _, about in parts},
    }
    certificate = {
        str(column): {**find_leaks(images[images[column].notna()], str(column)), **scope}
        for column in images
        if str(column).startswith(COLUMN)
    }
    if not certificate["split"]["leak_free"]:
        raise InputError(leak_problems(images, manifests))
    return certificate


def read_part(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a manifest's ids and splits, with patients in their name space, and its metadata."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise refuse(str(path), "a manifest", "no file", "make it with datasets.manifest")
    schema = pq.read_schema(path)
    note = (schema.metadata or {}).get(b"steadfast")
    if note is None:
        found = "a Parquet file without its metadata"
        raise refuse(str(path), "a manifest", found, "make it with datasets.manifest")
    about: dict[str, Any] = json.loads(note)
    splits = [name for name in schema.names if name.startswith(COLUMN)]
    rows = pq.read_table(path, columns=["image_id", "patient_id", "sha256", *splits])
    images = rows.to_pandas()
    images["patient"] = about["patients"] + "/" + images["patient_id"]
    images["image"] = about["dataset"] + "/" + images["image_id"]
    return images, about


def find_leaks(images: pd.DataFrame, column: str) -> dict[str, Any]:
    """Return how many patients and files the split in `column` puts into two parts.

    >>> import pandas as pd
    >>> find_leaks(pd.DataFrame({"patient": ["a", "a"], "sha256": ["1", "2"], "image": ["x", "y"],
    ...     "split": ["train", "test"]}), "split")["patients_in_two_splits"]
    1
    """
    patients = in_two_splits(images, "patient", column)
    files = in_two_splits(images, "sha256", column)
    return {
        "leak_free": not patients and not files,
        "patients_in_two_splits": len(patients),
        "files_in_two_splits": len(files),
        "examples": {
            "patients": patients[:EXAMPLES],
            "files": [
                images.loc[images["sha256"] == f, "image"].tolist() for f in files[:EXAMPLES]
            ],
        },
    }


def in_two_splits(images: pd.DataFrame, key: str, column: str) -> list[str]:
    """Return the values of `key` that occur in more than one split, sorted.

    A released list may have a patient in two at once, written `train+val`.
    """
    pairs = images[[key, column]].drop_duplicates()
    pairs = pairs.assign(**{column: pairs[column].str.split("+")}).explode(column)
    pairs = pairs.drop_duplicates()
    return sorted(pairs.loc[pairs[key].duplicated(), key].unique())


def leak_problems(images: pd.DataFrame, manifests: Sequence[Path]) -> list[Problem]:
    """Return one problem a patient, and one an identical file, in two parts of `split`."""
    where = ", ".join(str(path) for path in manifests)
    advice = {
        "patient": "correct the split column, or leave it out to have one drawn by patient",
        "sha256": "remove one of the files from the index, or set split_policy: drawn",
    }
    problems = []
    for key, next_step in advice.items():
        leaking = images[images[key].isin(in_two_splits(images, key, "split"))]
        for value, rows in leaking.groupby(key, sort=True):
            name = f"patient {value}" if key == "patient" else "identical files"
            shown = ", ".join(
                f"{image} in {split}"
                for image, split in zip(rows["image"], rows["split"], strict=True)
            )
            problems.append(Problem(f"{where}: {name}", "one split", shown, next_step))
    return problems


if __name__ == "__main__":
    sys.exit(run(main))
