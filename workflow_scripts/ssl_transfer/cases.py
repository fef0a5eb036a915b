"""The images of one data set, seen by one checkpoint: features beside labels and patients.

Reads what few-shot and linear evaluation read, and refuses files that do not belong together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.files import read_json
from workflow_scripts.predictions import CASE_COLUMNS, data_name
from workflow_scripts.problems import InputError, Problem, refuse, require_files
from workflow_scripts.ssl_transfer.protocols import FewShotOptions, LinearOptions

if TYPE_CHECKING:
    import pandas as pd

SYSTEM = "ssl_transfer"
FINDING = "label_"  # prefix of the columns of a multi-label task
RELEASED_ORDER = "order_released"
BY_DATASET = "by_dataset"  # geometry option: as the card says the released code did
CARD_KEYS = ("dataset", "classes", "geometry_released", "metric", "phantom")
CERTIFICATE_KEYS = ("checkpoint", "architecture", "backbone_sha256", "phantom", "pretrained")
LIBRARIES = ("numpy", "scikit-learn")  # whose arithmetic the results rest on
AGAIN = "make the file again with the step that wrote it"
UNFIT = "give the files of one data set and one checkpoint, as the rule does"


@dataclass(frozen=True, slots=True)
class CasePaths:
    """The files that describe the cases, as `docs/reference/files.md` defines them."""

    features: Path
    manifest: Path
    card: Path
    certificate: Path
    leak_free: Path


@dataclass(frozen=True, slots=True)
class Cases:
    """The labelled images of a data set.

    Attributes:
        table: manifest rows sorted by `image_id`, with `label` (class index), `part` (the split of
            the protocol) and `feature_row` (row of `features`; -1 for a quarantined image).
        features: float32, shape (N, F).
        classes: names of the classes.
        card: the data set's card.
        certificate: the checkpoint's certificate.
        options: what was chosen: geometry, normalisation, finding, label policy.
        diagnostics: what a reader should know: images lost, leaks recorded, source of the features.
    """

    table: pd.DataFrame
    features: NDArray[np.float32]
    classes: list[str]
    card: dict[str, Any]
    certificate: dict[str, Any]
    options: dict[str, Any]
    diagnostics: dict[str, Any]

    @property
    def data(self) -> str:
        """What the results say they were made from (`predictions.data_name`)."""
        is_phantom = self.card["phantom"] or self.certificate["phantom"]
        return data_name(self.card["dataset"], is_phantom, self.certificate["pretrained"])


def add_case_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the cases and how they are reported."""
    for name, meaning in (
        ("features", "features of the checkpoint on the data set (.npz)"),
        ("manifest", "manifest of the data set (.parquet)"),
        ("card", "card of the data set (.json)"),
        ("certificate", "certificate of the checkpoint (.json)"),
        ("leak-free", "leak certificate of the data set (.json)"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=meaning)
    parser.add_argument(
        "--protocol",
        choices=["released", "corrected"],
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of every draw (released code: 0)")
    parser.add_argument("--finding", help="the finding to classify in a multi-label data set")
    parser.add_argument("--column", help="column in the table (default: the data set)")
    parser.add_argument("--out", type=Path, required=True, help="predictions to write (.parquet)")


def case_paths(given: argparse.Namespace) -> CasePaths:
    """Return the paths of a parsed command line.

    Raises:
        InputError: every file that is not there.
    """
    paths = CasePaths(
        given.features, given.manifest, given.card, given.certificate, given.leak_free
    )
    require_files(getattr(paths, name) for name in CasePaths.__slots__)
    return paths


def read_cases(
    paths: CasePaths, options: FewShotOptions | LinearOptions, finding: str | None = None
) -> Cases:
    """Return the labelled images of a data set and their features.

    Args:
        paths: the five files.
        options: of the protocol: geometry, normalisation and split column.
        finding: makes a two-class task (absent, present) of one column of a multi-label manifest;
            images where it is unknown are left out and counted.

    Raises:
        InputError: files of different data sets or checkpoints, features of another pipeline,
            images that the manifest does not know, a split that leaks or has no certificate.
    """
    card = read_keys(paths.card, CARD_KEYS)
    certificate = read_keys(paths.certificate, CERTIFICATE_KEYS)
    features, image_id, provenance = read_features(paths.features)
    geometry = card["geometry_released"] if options.geometry == BY_DATASET else options.geometry
    wanted = {
        "dataset": card["dataset"],
        "checkpoint": certificate["checkpoint"],
        "architecture": certificate["architecture"],
        "backbone_sha256": certificate["backbone_sha256"],
        "geometry": geometry,
        "normalisation": options.normalisation,
    }
    leak = checked_leak(paths.leak_free, options.split_column)
    _check_provenance(paths.features, provenance, wanted)
    table = read_manifest(paths.manifest, options.split_column)
    table["feature_row"] = feature_rows(paths, table, image_id)
    labelled, classes = single_label(table, paths, card["classes"], finding)
    return Cases(
        table=labelled.assign(part=labelled[options.split_column]),
        features=features,
        classes=classes,
        card=card,
        certificate=certificate,
        options={
            "geometry": geometry,
            "normalisation": options.normalisation,
            "finding": finding,
            "label_policy": card.get("label_policy"),
        },
        diagnostics={
            "images_labelled": len(labelled),
            "images_without_label": len(table) - len(labelled),
            "images_quarantined": int((labelled["feature_row"] < 0).sum()),
            "split_leak": leak,
            "features": provenance,
            "versions": {name: version(name) for name in LIBRARIES},
        },
    )


def require_released_order(cases: Cases, manifest: Path) -> None:
    """Raise unless the data set has an order of the released code."""
    if RELEASED_ORDER not in cases.table:
        raise refuse(
            str(manifest),
            f"the column {RELEASED_ORDER!r} for --protocol released",
            "a data set that the released code never read",
            "use --protocol corrected",
        )


def _seed(text: str) -> int:
    """Return a seed that both torch's and NumPy's generators take."""
    seed = int(text)
    if not 0 <= seed < 1 << 32:
        raise argparse.ArgumentTypeError(f"expected 0 to {(1 << 32) - 1}, found {seed}")
    return seed


def read_keys(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return a JSON object that has all `keys`."""
    content = read_json(path)
    missing = [key for key in keys if key not in content]
    if missing:
        found = ", ".join(content) or "an empty object"
        raise refuse(str(path), f"the keys {', '.join(missing)}", found, AGAIN)
    return content


def read_features(
    path: Path,
) -> tuple[NDArray[np.float32], NDArray[np.str_], dict[str, Any]]:
    """Return features (N, F), image ids (N,) and provenance of a features file."""
    with np.load(path, allow_pickle=False) as content:
        missing = {"features", "image_id", "provenance"} - set(content.files)
        if missing:
            expected = f"the arrays {', '.join(sorted(missing))}"
            raise refuse(str(path), expected, ", ".join(content.files), AGAIN)
        features, image_id = content["features"], content["image_id"]
        provenance = json.loads(str(content["provenance"]))
    if features.ndim != 2 or len(features) != len(image_id) or features.dtype != np.float32:
        found = f"{features.dtype} {features.shape} for {len(image_id)} images"
        raise refuse(str(path), "float32 features, one row an image", found, AGAIN)
    bad_rows = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad_rows):
        raise InputError(
            Problem(f"{path} row {row} ({image_id[row]})", "finite features", "NaN or inf", AGAIN)
            for row in bad_rows
        )
    return features, image_id, provenance


def _check_provenance(path: Path, provenance: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise where the features were made from something else than wanted."""
    problems = [
        Problem(f"{path}, provenance {name!r}", repr(value), repr(provenance.get(name)), UNFIT)
        for name, value in wanted.items()
        if provenance.get(name) != value
    ]
    if problems:
        raise InputError(problems)


def checked_leak(path: Path, split_column: str) -> dict[str, Any]:
    """Return the certificate of a split; `split` must be free of leaks."""
    content = read_json(path)
    if split_column not in content:
        raise refuse(
            str(path),
            f"a leak certificate of {split_column!r}",
            f"certificates of {', '.join(content) or 'nothing'}",
            "use --protocol corrected for a data set without a released split, "
            "or make the certificate again",
        )
    leak: dict[str, Any] = content[split_column]
    if split_column == "split" and not leak["leak_free"]:
        raise refuse(
            str(path),
            "no patient and no file in two splits",
            f"{leak['patients_in_two_splits']} patients and {leak['files_in_two_splits']} files",
            "draw the split again by patient",
        )
    return {key: value for key, value in leak.items() if key != "examples"}


def read_manifest(path: Path, split_column: str) -> pd.DataFrame:
    """Return the manifest, sorted by image; the columns that no protocol needs are left out."""
    import pyarrow.parquet as pq

    # faster to import than pandas.read_parquet
    table: pd.DataFrame = pq.ParquetFile(path).read().to_pandas()
    missing = [name for name in (*CASE_COLUMNS, split_column) if name not in table]
    if missing:
        expected = f"the columns {', '.join(missing)}"
        raise refuse(str(path), expected, ", ".join(table.columns), AGAIN)
    problems = [
        Problem(f"{path} column {name!r}", "no gap", f"{n_gaps} gaps", AGAIN)
        for name in ("image_id", "patient_id", split_column)
        if (n_gaps := int(table[name].isna().sum()))
    ]
    if table["image_id"].duplicated().any():
        twice = table["image_id"][table["image_id"].duplicated()].iloc[0]
        problems.append(Problem(f"{path} column 'image_id'", "unique ids", f"{twice} twice", AGAIN))
    if problems:
        raise InputError(problems)
    return table.sort_values("image_id", ignore_index=True)


def feature_rows(
    paths: CasePaths, table: pd.DataFrame, image_id: NDArray[np.str_]
) -> NDArray[np.int64]:
    """Return the feature row of each manifest row, -1 where the image was quarantined."""
    import pandas as pd

    index = pd.Index(image_id)
    problems = [
        Problem(f"{paths.features} image {name!r}", "one row an image", "two", AGAIN)
        for name in index[index.duplicated()].unique()
    ] + [
        Problem(f"{paths.features} image {name!r}", f"an image of {paths.manifest}", "none", UNFIT)
        for name in index.difference(pd.Index(table["image_id"]))
    ]
    if problems:
        raise InputError(problems)
    return index.get_indexer(pd.Index(table["image_id"])).astype(np.int64)


def single_label(
    table: pd.DataFrame, paths: CasePaths, classes: list[str], finding: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the images with a known class, `label` as class index, and the classes' names."""
    names = [str(name) for name in table.columns]
    findings = [name.removeprefix(FINDING) for name in names if name.startswith(FINDING)]
    if finding is None and "label" in table:
        outside = table[~table["label"].isin(range(len(classes)))]
        if len(outside):
            raise InputError(
                Problem(
                    f"{paths.manifest} image {row.image_id!r}",
                    f"a label of 0 to {len(classes) - 1}, the classes of {paths.card}",
                    str(row.label),
                    AGAIN,
                )
                for row in outside.itertuples()
            )
        return table, list(classes)
    if finding is None or finding not in findings:
        found = "no such finding" if finding else "several findings a case and none chosen"
        raise refuse(
            str(paths.manifest),
            f"--finding, one of {', '.join(findings)}" if findings else "no --finding",
            found if findings else "one label a case",
            "each finding is a task of two classes of its own; name one",
        )
    known = table[table[FINDING + finding].notna()].reset_index(drop=True)
    labels = known[FINDING + finding].astype(np.int64)
    return known.assign(label=labels), [f"no {finding}", finding]
