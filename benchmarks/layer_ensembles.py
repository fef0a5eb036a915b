"""B8: one pass of the published network with ten heads against five passes, and against one.

    python -m benchmarks.layer_ensembles [--side 256]

The plain networks share the weights of the one with heads, whose own output must be theirs bit
for bit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from benchmarks.timing import Comparison, compare
from workflow_scripts.layer_ensembles.wrapper import attach_heads, head_logits
from workflow_scripts.networks.scse_unet import ScseUNet
from workflow_scripts.speed import tune_allocator

MEMBERS = 5
REPEATS = 5


def measure(side: int) -> list[Comparison]:
    """Compare one pass of layer ensembles with five plain passes, then with one."""
    torch.manual_seed(0)
    plain = ScseUNet(2).eval()
    network = attach_heads(plain, torch.zeros(1, 1, 64, 64), "segmentation", 2).eval()
    image = torch.randn(1, 1, side, side)
    # the same layers without the hooks of the wrapper
    bare = ScseUNet(2).eval()
    bare.load_state_dict(plain.state_dict())

    def passes(n: int) -> torch.Tensor:
        with torch.inference_mode():
            return [bare(image) for _ in range(n)][-1]

    def one_pass() -> torch.Tensor:
        with torch.inference_mode():
            heads = head_logits(network(image))
        assert len(heads) == 10
        return heads[-1]

    passes(1), one_pass()  # warm up
    found = [
        compare("B8 DE / LE", lambda: passes(MEMBERS), one_pass, torch.equal, REPEATS),
        compare("B8 plain / LE", lambda: passes(1), one_pass, torch.equal, REPEATS),
    ]
    print(f"B8 LE costs {1 / found[1].ratio:.3f} of plain")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from the command line; fails only where the outputs differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=256)
    tune_allocator()  # as the step `predict` does
    rows = measure(parser.parse_args(arguments).side)
    return 0 if all(row.equal for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
