"""B7: uncertainty of 8 images of 256 x 256, all numbers of `get_uncertainty_metrics`.

    python -m benchmarks.uncertainty [--heads 10 18] [--images 8]

The product also computes the layer agreement of the argmax masks, which the reference does not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.reference.layer_ensembles import uncertainty_metrics
from benchmarks.timing import Comparison, compare
from workflow_scripts.metrics import uncertainty
from workflow_scripts.speed import tune_allocator

SIDE = 256
LARGEST_DIFFERENCE = 1e-12  # relative: sums of 65,536 pixels are of the order of 1e4


def made_up(n_heads: int, n_images: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return logits (N, T, 2, H, W) of a blurred disc that heads see ever more clearly."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    disc = 0.5 - np.hypot(x, y)
    clear = np.linspace(2, 12, n_heads)[:, None, None]
    noise = rng.normal(0, 0.7, (n_images, n_heads, 2, SIDE, SIDE))
    logits = noise + np.stack([-clear * disc, clear * disc], axis=1)
    return logits, np.repeat((disc > 0)[None], n_images, axis=0).astype(np.int64)


def product(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> list[float]:
    """Return what the reference returns."""
    p = uncertainty.softmax(logits)
    sums = uncertainty.image_uncertainty(uncertainty.uncertainty_maps(p, "released"), "released")
    uncertainty.aula(uncertainty.layer_agreement(uncertainty.most_likely(p) > 0))
    of_truth = np.take_along_axis(p.mean(axis=0), truth[None], axis=0)
    nll = uncertainty.nll_of(of_truth, uncertainty.RELEASED_NLL_EPSILON)
    return [*sums, nll, -uncertainty.released_aula(len(logits))]


def measure(n_heads: int, n_images: int) -> Comparison:
    """Compare both sides once over all images."""
    logits, truth = made_up(n_heads, n_images)
    pairs = list(zip(logits, truth, strict=True))
    return compare(
        f"B7 le-metrics {n_heads} heads",
        lambda: [uncertainty_metrics(*one) for one in pairs],
        lambda: [product(*one) for one in pairs],
        lambda a, b: bool(np.allclose(a, b, rtol=LARGEST_DIFFERENCE, atol=0)),
        repeats=1,  # each image is one
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from the command line; fails only where numbers differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--heads", type=int, nargs="+", default=[10, 18])
    parser.add_argument("--images", type=int, default=8)
    given = parser.parse_args(arguments)
    tune_allocator()  # as the step `predict` does
    rows = [measure(n_heads, given.images) for n_heads in given.heads]
    return 0 if all(row.equal for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
