"""The product's side of `few_shot` and `linear_evaluation`: its steps in one process.

python -m benchmarks.ssl_product few_shot --threads 1 --n-way 4 ...
python -m benchmarks.ssl_product linear --threads 2
python -m benchmarks.ssl_product linear --threads 2 --cached     # the features are there
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from benchmarks.drawn_files import BACKBONE, as_words

GEOMETRIES = {"few_shot": "squash224", "linear": "short224"}  # released protocol
NORMALISATIONS = {"few_shot": "own", "linear": "none"}
CERTIFICATE = {"certificate": BACKBONE["certificate"]}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=GEOMETRIES)
    parser.add_argument("--threads", required=True, help="of store and features")
    parser.add_argument("--cached", action="store_true", help="read features.npz as it is")
    given, options = parser.parse_known_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if not given.cached:
        make_features(given.step, given.threads)
    step = importlib.import_module(f"workflow_scripts.ssl_transfer.{given.step}")
    files = {"features": "features.npz", "manifest": "manifest.parquet", "card": "card.json"}
    files |= {"leak_free": "leak_free.json", "out": "predictions.parquet", **CERTIFICATE}
    step.main([*as_words(**files, protocol="released"), *options])


def make_features(step: str, threads: str) -> None:
    """Store the images in the step's geometry and forward each once."""
    from workflow_scripts.datasets import store
    from workflow_scripts.ssl_transfer import features

    stored = {"geometry": GEOMETRIES[step], "store": "store.npy", "index": "store.parquet"}
    files = {"manifest": "manifest.parquet", "root": "images", "quarantine": "quarantine.csv"}
    store.main(as_words(**files, **stored, jobs=threads))
    backbone = {"backbone": BACKBONE["backbone"], "normalisation": NORMALISATIONS[step]}
    run = {"dataset": "drawn", "threads": threads, "out": "features.npz"}
    features.main(as_words(**backbone, **CERTIFICATE, **stored, **run))


if __name__ == "__main__":
    sys.exit(main())
