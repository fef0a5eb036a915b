"""Invariance scores: one product for all views against a product a view and measure.

    python -m benchmarks.invariance            # 2 images, 256 views, 2048 features

The network is left out on both sides. Equal means: cosine within 1e-6, distance within 1e-6
relative.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.reference.invariance import scores
from benchmarks.timing import compare
from workflow_scripts.metrics.invariance import invariance_scores, whitening

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
TOLERANCE = 1e-6


def equal(expected: Pair, found: Pair) -> bool:
    """Return whether cosines and distances agree."""
    return bool(
        np.allclose(expected[0], found[0], rtol=0, atol=TOLERANCE)
        and np.allclose(expected[1], found[1], rtol=TOLERANCE)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Score both ways in turn; fails where they differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, value in (("images", 2), ("views", 256), ("features", 2048), ("statistics", 4096)):
        parser.add_argument(f"--n-{name}", type=int, default=value, help=f"({value})")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (3)")
    given = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    shape = (given.n_images, given.n_views, given.n_features)
    with threadpool_limits(limits=1):
        to_white = whitening(rng.normal(size=(given.n_statistics, given.n_features)))
        clean = rng.normal(size=(shape[0], shape[2]))
        transformed = clean[:, None] + 0.3 * rng.normal(size=shape)
        inverse = to_white.factor @ to_white.factor.T

        def product() -> Pair:
            found = invariance_scores(clean, transformed, to_white)
            return found.whitened_cosine, found.mahalanobis

        comparison = compare(
            f"invariance scores {shape[0]} x {shape[1]} views x {shape[2]}",
            lambda: scores(clean, transformed, to_white.mean, inverse, to_white.factor),
            product,
            equal,
            given.repeats,
        )
    return 0 if comparison.equal else 1


if __name__ == "__main__":
    sys.exit(main())
