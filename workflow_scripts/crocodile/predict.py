"""Step: what a trained network says of the test images, in and out of distribution.

    python -m workflow_scripts.crocodile.predict --model model.safetensors --record training.json \\
        --role ID --manifests ... --cards ... --stores ... --indexes ... \\
        --out predictions.parquet --map causality.csv

ID: the test split of the source data sets; OOD: every image of the others. Only the disease branch
is run.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.crocodile.cases import Cases, Dataset, as_tables, counts, read_dataset
from workflow_scripts.crocodile.cases import DatasetFiles as Files
from workflow_scripts.crocodile.protocols import PROTOCOLS
from workflow_scripts.crocodile.settings import LossWeights, Schedule, Shape, record_of
from workflow_scripts.crocodile.variants import VARIANTS
from workflow_scripts.files import read_json, write_text
from workflow_scripts.predictions import data_name, write_case_scores
from workflow_scripts.problems import refuse
from workflow_scripts.training.devices import Devices, add_device_arguments, request_of, set_up

TABLE = "crocodile_id_ood"
SPLIT_OF = {"ID": "test", "OOD": None}  # OOD: the whole data set, which nothing was trained on


def predict(given: argparse.Namespace, record: dict[str, Any], devices: Devices) -> None:
    """Write predictions and the mean causality map."""
    shape = record_of(Shape, record["network"], "network")
    lists = (given.manifests, given.cards, given.stores, given.indexes)
    datasets = [
        read_dataset(Files(*paths), record["findings"], shape.image_size)
        for paths in zip(*lists, strict=True)
    ]
    _check_role(given, record, datasets)
    cases = Cases(datasets, SPLIT_OF[given.role])
    if len(cases) == 0:
        step = "give the data sets test images"
        raise refuse(f"role {given.role}", "at least one image", "none", step)
    found = logits_of(given, record, cases, devices)
    maps = found.pop("causality", None)
    if not devices.ranks.is_first:
        return
    write(given, record, datasets, cases, found)
    mean = np.full((len(record["findings"]),) * 2, np.nan) if maps is None else maps.mean(axis=0)
    write_text(given.map, map_text(mean, record["findings"]))


def logits_of(
    given: argparse.Namespace, record: dict[str, Any], cases: Cases, devices: Devices
) -> dict[str, NDArray[Any]]:
    """Rebuild the network, load its weights, and read every case."""
    from safetensors.torch import load_file

    from workflow_scripts.crocodile import build
    from workflow_scripts.crocodile.evaluation import evaluate

    shape = record_of(Shape, record["network"], "network")
    variant, options = VARIANTS[record["variant"]], PROTOCOLS[record["protocol"]]
    trunks = [
        build.empty_trunk(shape, record["architecture"]) for _ in range(1 + variant.has_domain)
    ]
    weights = record_of(LossWeights, record["weights"], "weights")
    objective = build.make_objective(
        trunks, record["findings"], len(record["sources"]), shape, variant, options, weights, 0
    )
    objective.model.load_state_dict(load_file(str(given.model)), strict=True)
    devices.fabric.to_device(objective)
    shuffle_seed = record["seed"] if options.shuffle_in_evaluation else None
    batch = record_of(Schedule, record["training"], "training").evaluation_batch
    found = evaluate(objective, cases, devices, batch, shuffle_seed)
    return {name: found[name] for name in (*variant.heads, "causality") if name in found}


def write(
    given: argparse.Namespace, record: dict[str, Any], datasets: list[Dataset], cases: Cases,
    found: dict[str, NDArray[Any]],
) -> None:  # fmt: skip
    """Write one row an image: labels, and the logits of each head."""
    findings = record["findings"]
    scores = {
        f"{head}_{finding}": logits[:, k].astype(np.float64)
        for head, logits in found.items()
        for k, finding in enumerate(findings)
    }
    truth = {
        f"truth_{finding}": cases.labels[:, k].astype(int) for k, finding in enumerate(findings)
    }
    is_phantom = record["phantom"] or any(one.is_phantom for one in datasets)
    names = "+".join(one.name for one in datasets)
    write_case_scores(
        given.out,
        as_tables(cases),
        scores,
        {
            "system": "crocodile",
            "table": TABLE,
            "row": record["variant"],
            "column": given.role,
            "protocol": record["protocol"],
            "seed": record["seed"],
            "kind": "multilabel",
            "metric": "mean_auc",
            "classes": findings,
            "data": data_name("+".join(record["sources"]), is_phantom),
            "checkpoint": record["architecture"] or record["network"]["trunk"],
            "dataset": names,
            "options": {
                **asdict(PROTOCOLS[record["protocol"]]),
                **{name: record[name] for name in ("network", "training", "weights")},
                "precision": given.precision,
                "heads": list(found),
            },
            "diagnostics": {
                "trained_on": record["cases"],
                "tested_on": counts(cases, findings),
                "quarantined": {one.name: one.quarantined for one in datasets},
                "best_validation": record["best"],
                "best_step": record["best_step"],
            },
        },
        truth,
    )


def map_text(mean: NDArray[np.float64], findings: Sequence[str]) -> str:
    """Return a causality map as CSV, rows causes, columns effects; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["cause", *findings])
    for finding, row in zip(findings, mean, strict=True):
        writer.writerow([finding, *("" if np.isnan(value) else f"{value:.8f}" for value in row)])
    return text.getvalue()


def _check_role(given: argparse.Namespace, record: dict[str, Any], datasets: list[Dataset]) -> None:
    """Refuse sources as OOD data, and others as ID data."""
    step = "give the source data sets with --role ID and all others with --role OOD"
    for one in datasets:
        is_source = one.name in record["sources"]
        if is_source != (given.role == "ID"):
            found = f"{one.name}, {'a source' if is_source else 'no source'} of this model"
            raise refuse("--manifests", f"data sets of the role {given.role}", found, step)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, set up the device, predict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="trained weights (.safetensors)")
    add("--record", type=Path, required=True, help="what was trained (.json)")
    add(
        "--role",
        choices=list(SPLIT_OF),
        required=True,
        help="which part of the data, which column of the table",
    )
    for name in ("manifests", "cards", "stores", "indexes"):
        add(f"--{name}", type=Path, nargs="+", required=True, help="of the data sets to test on")
    add("--out", type=Path, required=True, help="predictions to write (.parquet)")
    add("--map", type=Path, required=True, help="mean causality map to write (.csv)")
    add_device_arguments(parser)
    given = parser.parse_args(arguments)
    record = read_json(given.record)
    predict(given, record, set_up(request_of(given)))


if __name__ == "__main__":
    sys.exit(run(main))
