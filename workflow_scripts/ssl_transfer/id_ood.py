"""Step: a linear probe fitted on one data set, tested on it (ID) and on others (OOD).

    python -m workflow_scripts.ssl_transfer.id_ood --train shenzhen \
        --features a.npz b.npz --manifests a.parquet b.parquet --cards a.json b.json \
        --leak-free a.json b.json --certificate certificate.json \
        --experiment-leak-free experiment.json --out id.parquet ood.parquet

All files are given in the same order of data sets, `--train` among them. The probe is the one of
the linear evaluation, protocol `corrected`; each data set is judged on its test part. Ours; the
paper tests every probe on its own data set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.files import read_json, sha256_of
from workflow_scripts.predictions import write_predictions
from workflow_scripts.problems import InputError, Problem, refuse, require_files
from workflow_scripts.ssl_transfer.cases import SYSTEM, CasePaths, Cases, read_cases
from workflow_scripts.ssl_transfer.linear import evaluate, split_parts
from workflow_scripts.ssl_transfer.parts import Parts
from workflow_scripts.ssl_transfer.protocols import LINEAR, Protocol

if TYPE_CHECKING:
    import pandas as pd

TABLE = "ssl_transfer_id_ood"
PROTOCOL: Protocol = "corrected"
AGAIN = "make the certificate again from these manifests (rule experiment_leak_free)"


def check_certificate(path: Path, manifests: dict[str, Path]) -> dict[str, Any]:
    """Return the certificate of an experiment that covers these manifests.

    Args:
        path: the certificate.
        manifests: of each data set, by its name.

    Raises:
        InputError: a data set is missing, a manifest is not the certified one, or the split leaks.
    """
    content = read_json(path).get("split", {})
    certified = content.get("manifests", {})
    problems = [
        Problem(f"{path}, data set {name}", "its manifest", certified.get(name, "none"), AGAIN)
        for name, manifest in manifests.items()
        if certified.get(name) != sha256_of(manifest)
    ]
    if content.get("leak_free") is not True:
        found = f"leak_free: {content.get('leak_free')}"
        problems.append(Problem(str(path), "no patient and no file in two splits", found, AGAIN))
    if problems:
        raise InputError(problems)
    return {name: value for name, value in content.items() if name != "examples"}


def held_out(cases: Cases) -> pd.DataFrame:
    """Return the test images of a data set that have features."""
    table = cases.table
    return table[(table["part"] == "test") & (table["feature_row"] >= 0)]


def together(all_cases: Sequence[Cases], train: int, seed: int) -> tuple[Cases, Parts, list[int]]:
    """Return one set of cases: parts of the training set, test images of all data sets.

    Args:
        all_cases: one a data set, with the same classes and feature size.
        train: which of them the probe is fitted on.
        seed: of the validation part.

    Returns:
        The cases with all features; training and validation part of `train`, the test parts of
        all data sets in their order; and how many test images each of these has.

    Raises:
        InputError: other classes, or a data set without a test image.
    """
    import pandas as pd

    first = all_cases[train]
    tests, problems = [], []
    starts = np.cumsum([0, *(len(cases.features) for cases in all_cases)])
    for cases, start in zip(all_cases, starts.tolist(), strict=False):
        name, rows = cases.card["dataset"], held_out(cases)
        tests.append(rows.assign(feature_row=rows["feature_row"] + start))
        if cases.classes != first.classes:
            step = "compare data sets with one task, or name a --finding"
            found = ", ".join(cases.classes)
            expected = f"the classes {', '.join(first.classes)}"
            problems.append(Problem(f"data set {name}", expected, found, step))
        if len(rows) == 0:
            step = "leave the data set out"
            problems.append(Problem(f"data set {name}", "a test part", "no image in it", step))
    if problems:
        raise InputError(problems)
    own = split_parts(first, LINEAR[PROTOCOL], seed)
    moved = [
        part.assign(feature_row=part["feature_row"] + int(starts[train]))
        for part in (own.training, own.validation)
    ]
    features = np.concatenate([cases.features for cases in all_cases])
    parts = Parts(moved[0], moved[1], pd.concat(tests, ignore_index=True))
    return replace(first, features=features), parts, [len(rows) for rows in tests]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit one probe; write one row a test image of each data set."""
    given = _parser().parse_args(arguments)
    all_paths = _paths(given)
    options = LINEAR[PROTOCOL]
    all_cases = [read_cases(paths, options, given.finding) for paths in all_paths]
    names = [cases.card["dataset"] for cases in all_cases]
    if names.count(given.train) != 1:
        step = "name one of them, each data set once"
        raise refuse("--train", f"one of {', '.join(names)}", given.train, step)
    manifests = dict(zip(names, given.manifests, strict=True))
    leak = check_certificate(given.experiment_leak_free, manifests)
    cases, parts, sizes = together(all_cases, names.index(given.train), given.seed)
    # they stand in `cases` now; a second copy of four archives' is more than the job's memory
    all_cases = [replace(one, features=one.features[:0].copy()) for one in all_cases]
    result = evaluate(cases, parts, options, given.threads)
    ends = np.cumsum(sizes)
    diagnostics = {
        "experiment_leak": leak,
        "trained_on": given.train,
        "training_images": len(parts.training) + len(parts.validation),
        "chosen_c": result.chosen.c,
        "final_converged": result.final.converged,
    }
    for tested, end, size, path in zip(all_cases, ends.tolist(), sizes, given.out, strict=True):
        rows = slice(end - size, end)
        column = f"{given.train} to {tested.card['dataset']}"
        _write(path, tested, parts.test.iloc[rows], result.scores[rows], {
            "column": f"{column} {given.finding}" if given.finding else column,
            "seed": given.seed,
            "diagnostics": {**tested.diagnostics, **diagnostics},
        })  # fmt: skip


def _write(
    path: Path,
    cases: Cases,
    test: pd.DataFrame,
    scores: NDArray[np.float64],
    about: dict[str, Any],
) -> None:
    write_predictions(
        path,
        test.assign(split=test["part"]),
        truth=test["label"].to_numpy(),
        scores=scores,
        metadata={
            **about,
            "system": SYSTEM,
            "table": TABLE,
            "row": cases.certificate["checkpoint"],
            "protocol": PROTOCOL,
            "kind": "classification",
            "metric": "auc",  # the classes' shares differ between hospitals
            "classes": cases.classes,
            "data": cases.data,
            "checkpoint": cases.certificate["checkpoint"],
            "dataset": cases.card["dataset"],
            "options": cases.options,
        },
    )


def _paths(given: argparse.Namespace) -> list[CasePaths]:
    """Return the files of each data set.

    Raises:
        InputError: lists of different lengths, or a file that is not there.
    """
    lists = {
        name: getattr(given, name)
        for name in ("features", "manifests", "cards", "leak_free", "out")
    }
    counts = {len(files) for files in lists.values()}
    if len(counts) > 1 or counts == {1}:
        found = ", ".join(f"{len(files)} {name}" for name, files in lists.items())
        step = "give every list in the same order of data sets"
        raise refuse("command line", "lists of one length, at least two data sets", found, step)
    shared = [given.certificate, given.experiment_leak_free]
    files = [*shared, *(path for name in list(lists)[:-1] for path in lists[name])]
    require_files(files)
    return [
        CasePaths(features, manifest, card, given.certificate, leak_free)
        for features, manifest, card, leak_free in zip(
            given.features, given.manifests, given.cards, given.leak_free, strict=True
        )
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", required=True, help="data set that the probe is fitted on")
    for name, text in (
        ("features", "of the checkpoint, .npz"),
        ("manifests", ".parquet"),
        ("cards", ".json"),
        ("leak-free", "certificates of the single data sets, .json"),
        ("out", "predictions to write, .parquet"),
    ):
        words = f"one a data set: {text}"
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help=words)
    parser.add_argument("--certificate", type=Path, required=True, help="of the checkpoint, .json")
    parser.add_argument(
        "--experiment-leak-free", type=Path, required=True, help="of all data sets together, .json"
    )
    parser.add_argument("--finding", help="the finding to classify in multi-label data sets")
    parser.add_argument("--seed", type=int, default=0, help="of the validation part (0)")
    parser.add_argument("--threads", type=int, default=1, help="of the linear algebra (1)")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
