"""B6: occlusion scores of the changed window alone, or in batches, against one by one.

    python -m benchmarks.occlusion --side-px 242 --bn eval --n-rows 2       # B6

Both sides score whole rows of positions of one image in this process; imports are not counted
(B5 counts them, `benchmarks.saliency`). The reference runs first, before the product tunes the
allocator. On one thread batching gives 3.8x at most at 64 px (performance facts, section 4).

Equal means: scores within 1e-6 in evaluation mode. With the statistics of each image, which
enlarge rounding, equal attentive diffusion (to 0.01 points; the largest difference is printed).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.reference import occlusion as reference
from benchmarks.timing import compare
from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.checkpoints.synthetic import backbone_of, phantom_tensors
from workflow_scripts.speed import set_threads, tune_allocator
from workflow_scripts.ssl_transfer.occlusion import (
    Occlusion,
    attentive_diffusion,
    saliency_map,
    score_positions,
)
from workflow_scripts.ssl_transfer.saliency import BatchNorm, scorer_of

LARGEST_DIFFERENCE = 1e-6  # of a score (performance facts, B6)
DIFFUSION_DIFFERENCE = 1e-4  # a fraction (performance facts, B5)
Scores = NDArray[np.float64]


def equal(expected: Scores, found: Scores, bn: str, side_px: int) -> bool:
    """Return whether the scores of whole rows of positions agree; print how far they are apart."""
    largest = float(np.abs(expected - found).max())
    print(f"  largest difference of a score {largest:.1e}, of {expected.max():.3f}")
    if bn == "eval":
        return largest <= LARGEST_DIFFERENCE
    shares = [diffusion(scores, side_px) for scores in (expected, found)]
    print(f"  attentive diffusion {100 * shares[0]:.2f} and {100 * shares[1]:.2f} %")
    return abs(shares[0] - shares[1]) <= DIFFUSION_DIFFERENCE


def diffusion(scores: Scores, side_px: int) -> float:
    """Return the attentive diffusion of a whole map's scores; of some rows that of the scores."""
    occlusion = Occlusion()
    n_places = len(occlusion.places(side_px))
    if scores.size < n_places**2:
        return attentive_diffusion(scores)
    return attentive_diffusion(saliency_map(scores.reshape(n_places, -1), side_px, occlusion))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both sides in turn, print one line; fails only where the scores differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--bn", choices=("eval", "released"), default="released")
    for name, value, meaning in (
        ("side-px", 64, "side of the image"),
        ("n-rows", 0, "rows of positions, drawn; 0: the whole map"),
        ("batch", 32, "windows of one pass of the product"),
        ("threads", 1, "for both sides"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{meaning} ({value})")
    given = parser.parse_args(arguments)
    set_threads(given.threads)
    window = Occlusion().window
    network = build_backbone("torchvision", given.architecture)
    tensors = phantom_tensors("torchvision", given.architecture, seed=1)
    network.load_state_dict(backbone_of(tensors, "torchvision", given.architecture)[0])
    plain = reference.build(given.architecture, dict(network.state_dict()), given.bn == "released")
    image = torch.randn(3, given.side_px, given.side_px, generator=torch.Generator().manual_seed(0))
    columns = Occlusion().places(given.side_px)
    drawn = np.random.default_rng(0).choice(columns, given.n_rows, replace=False)
    rows = drawn if given.n_rows else columns
    positions = [(int(row), int(column)) for row in rows for column in columns]

    def product() -> np.ndarray:
        tune_allocator()
        bn = cast(BatchNorm, given.bn)
        scorer = scorer_of(network, image, torch.zeros(3), window, bn, given.batch)
        return np.concatenate([*score_positions(scorer, rows, columns, given.batch)])

    name = (
        f"occlusion {given.architecture} {given.side_px} px, {given.bn}, {len(positions)} positions"
    )
    comparison = compare(
        name,
        lambda: reference.scores(plain, image, positions, window),
        product,
        partial(equal, bn=given.bn, side_px=given.side_px),
        repeats=1,
    )
    return 0 if comparison.equal else 1


if __name__ == "__main__":
    sys.exit(main())
