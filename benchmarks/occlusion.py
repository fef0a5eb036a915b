"""B5 and B6: occlusion scores in batches, or of the changed window alone, against one by one.

    python -m benchmarks.occlusion                                          # B5
    python -m benchmarks.occlusion --side-px 242 --bn eval --n-rows 2       # B6

Both sides score whole rows of positions of one image in this process; imports are not counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from benchmarks.reference import occlusion as reference
from benchmarks.timing import compare
from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.checkpoints.synthetic import backbone_of, phantom_tensors
from workflow_scripts.speed import set_threads, tune_allocator
from workflow_scripts.ssl_transfer.occlusion import Occlusion, score_positions
from workflow_scripts.ssl_transfer.saliency import BatchNorm, scorer_of

LARGEST_DIFFERENCE = 1e-6  # of a score (performance facts, B6)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both sides in turn, print one line; fails only where the scores differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--bn", choices=("eval", "released"), default="released")
    for name, value, meaning in (
        ("side-px", 64, "side of the image"),
        ("n-rows", 8, "rows of positions; a whole map has side - 9"),
        ("batch", 32, "windows of one pass of the product"),
        ("threads", 1, "for both sides"),
        ("repeats", 1, "runs of each side"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{meaning} ({value})")
    given = parser.parse_args(arguments)
    tune_allocator()
    set_threads(given.threads)
    window = Occlusion().window
    network = build_backbone("torchvision", given.architecture)
    tensors = phantom_tensors("torchvision", given.architecture, seed=1)
    network.load_state_dict(backbone_of(tensors, "torchvision", given.architecture)[0])
    plain = reference.build(given.architecture, dict(network.state_dict()), given.bn == "released")
    image = torch.randn(3, given.side_px, given.side_px, generator=torch.Generator().manual_seed(0))
    columns = Occlusion().places(given.side_px)
    rows = np.random.default_rng(0).choice(columns, given.n_rows, replace=False)
    positions = [(int(row), int(column)) for row in rows for column in columns]

    def product() -> np.ndarray:
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
        lambda expected, found: bool(np.abs(expected - found).max() <= LARGEST_DIFFERENCE),
        given.repeats,
    )
    return 0 if comparison.equal else 1


if __name__ == "__main__":
    sys.exit(main())
