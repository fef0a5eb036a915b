"""B9: one update of GeZO on ViT-B/16, released form, at identical noise.

    python -m benchmarks.gezo [--architecture vit_base_patch16_224] [--batch 4] [--draws 3]

Baseline: both signs asked for, the loader started anew for every direction. Product: the two
batches are fetched once, and only the sign that counts is asked for. Both start from pixels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.reference.gezo import plain_epoch
from benchmarks.timing import Comparison, compare
from workflow_scripts.checkpoints.backbone import create_timm
from workflow_scripts.debiased_noise import black_box
from workflow_scripts.debiased_noise.foundation import FoundationModel, pixels
from workflow_scripts.debiased_noise.gezo import Position, Settings, released_update
from workflow_scripts.debiased_noise.objective import Head, Weights

STEP, REG = 0.03, 0.001  # README command
CARD = {"size": 224, "channels": "RGB", "normalisation": "none", "mean": None, "std": None}


class Images(Dataset[Any]):
    """Stored images with their attribute."""

    def __init__(self, stored: np.ndarray, attribute: torch.Tensor) -> None:
        self.stored, self.attribute = stored, attribute

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return pixels(self.stored, [row])[0], self.attribute[row]


def measure(architecture: str, batch: int, n_draws: int, repeats: int = 3) -> Comparison:
    """Compare one update; `Comparison.equal` says whether the edits are the same bits."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (2 * batch, 224, 224, 3), dtype=np.uint8)
    attribute = torch.arange(2 * batch) % 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FoundationModel(create_timm(architecture, 0, "avg"), CARD)
        head = Head(torch.randn(2, model.network.num_features) * 0.02, torch.zeros(2))
        draws = torch.randn(n_draws, 224, 224)
    zeros = torch.zeros(224, 224)
    loader = DataLoader(Images(stored, attribute), batch_size=batch)

    def baseline() -> torch.Tensor:
        def network(images: torch.Tensor) -> torch.Tensor:
            return head.logits(model.network(images))

        return plain_epoch(zeros, draws, loader, network, STEP, REG)

    def product() -> torch.Tensor:
        parts = [range(batch * i, batch * (i + 1)) for i in range(2)]
        batches = black_box.Batches(
            model,
            SimpleNamespace(head=head),  # type: ignore[arg-type]  # all that a loss needs
            Weights(1.0, REG),
            tuple(pixels(stored, np.array(part)) for part in parts),
            tuple(attribute[list(part)] for part in parts),
        )
        position = Position(zeros, zeros, STEP)
        update = released_update(position, list(draws), batches.loss_of, Settings(STEP, n_draws))
        return update.position.noise

    model.embed(pixels(stored, [0]))  # memory and kernels are warm before the first timing
    return compare("B9 gezo-epoch", baseline, product, torch.equal, repeats)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from the command line; fails only where the edits differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--architecture", default="vit_base_patch16_224")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args(arguments)
    return 0 if measure(given.architecture, given.batch, given.draws).equal else 1


if __name__ == "__main__":
    sys.exit(main())
