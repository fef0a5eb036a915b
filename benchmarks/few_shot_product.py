"""The product's side of `benchmarks.few_shot`: its three steps, one after the other."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

STORE = {"geometry": "squash224", "store": "store.npy", "index": "store.parquet"}
CERTIFICATE = {"certificate": "certificate.json"}


def as_words(**options: object) -> list[str]:
    """Return options as a command line has them.

    >>> as_words(n_way=2)
    ['--n-way', '2']
    """
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in options.items())
    return [word for pair in pairs for word in pair]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", required=True)
    given, episodes = parser.parse_known_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

    from workflow_scripts.datasets import store
    from workflow_scripts.ssl_transfer import features, few_shot

    files = {"manifest": "manifest.parquet", "root": "images", "quarantine": "quarantine.csv"}
    store.main(as_words(**files, **STORE, jobs=given.threads))
    backbone = {"backbone": "backbone.safetensors", **CERTIFICATE, "normalisation": "own"}
    run = {"dataset": "drawn", "threads": given.threads, "out": "features.npz"}
    features.main(as_words(**backbone, **STORE, **run))
    files = {"features": "features.npz", "manifest": "manifest.parquet", "card": "card.json"}
    files |= {"leak_free": "leak_free.json", "out": "predictions.parquet", **CERTIFICATE}
    few_shot.main([*as_words(**files, protocol="released"), *episodes])


if __name__ == "__main__":
    sys.exit(main())
