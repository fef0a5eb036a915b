"""B4: the 45 fits of the linear evaluation against scikit-learn with its default threads.

    python -m benchmarks.linear_path                     # 320 x 2048, 5 classes
    python -m benchmarks.linear_path --n-images 3000     # 3000 x 2048, 5 classes

The small products of a fit are faster on one thread than on several that wait for each other.
The coefficients must equal those of scikit-learn on one thread, bit for bit. Two threads add in
another order, and fits that stop before they converge then differ; that is reported, not judged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.reference.linear_path import coefficients
from benchmarks.timing import compare
from workflow_scripts.ssl_transfer.regularisation_path import c_values, fit, probe

Coefficients = NDArray[np.float32]


def draw_features(
    n_images: int, n_features: int, n_classes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features like those of a ResNet (not negative, correlated) and noisy labels."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n_images, 32))
    mixed = hidden @ rng.normal(size=(32, n_features)) / 8 + rng.normal(size=(n_images, n_features))
    labels = (hidden[:, :n_classes] + rng.normal(size=(n_images, n_classes))).argmax(axis=1)
    return np.maximum(mixed / 2, 0).astype(np.float32), labels.astype(np.int64)


def product(
    features: NDArray[np.float32], labels: NDArray[np.int64], path: list[float]
) -> Coefficients:
    """Return the coefficients of the product's fits, as `linear` makes them."""
    model = probe(tolerance=1e-4, max_iterations=100)
    found = []
    with threadpool_limits(limits=1):
        for c in path:
            fit(model, features, labels, c)
            found.append(model.coef_.copy())
    return np.stack(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit both ways in turn, print the CPU and the wall ratio; fails only where they differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, value in (("images", 320), ("features", 2048), ("classes", 5), ("fits", 45)):
        parser.add_argument(f"--n-{name}", type=int, default=value, help=f"({value})")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (3)")
    given = parser.parse_args(arguments)
    features, labels = draw_features(given.n_images, given.n_features, given.n_classes)
    path = c_values().tolist()[: given.n_fits]
    with threadpool_limits(limits=1):
        expected = coefficients(features, labels, path)
    comparison = compare(
        f"linear path {given.n_images} x {given.n_features}, {given.n_fits} fits",
        lambda: coefficients(features, labels, path),
        lambda: product(features, labels, path),
        lambda _, found: bool(np.array_equal(found, expected)),
        given.repeats,
    )
    print(
        f"  wall ratio {comparison.wall_ratio:.1f}x; "
        "equal means: to scikit-learn on one thread, bit for bit"
    )
    return 0 if comparison.equal else 1


if __name__ == "__main__":
    sys.exit(main())
