"""The control: Gaussian noise with the norm of a learned edit.

    python -m workflow_scripts.debiased_noise.gaussian_edit --like noise_edit.safetensors \
        --seed 0 --out gaussian_edit.safetensors

Whatever such noise changes, the learned direction is not the reason.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise.foundation import ABOUT
from workflow_scripts.debiased_noise.noise_edit import gaussian_edit, norms, read_edit, write_edit
from workflow_scripts.randomness import named_rng

log = logging.getLogger(__name__)
KEPT = ("attribute", "protocol", "dataset", *ABOUT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the control of an edit from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--like", type=Path, required=True, help="learned edit, .safetensors")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--out", type=Path, required=True, help="edit to write, .safetensors")
    given = parser.parse_args(arguments)
    learned, about = read_edit(given.like)
    method = f"gaussian_{about['method']}"
    rng = named_rng(given.seed, "gaussian edit", method)
    noise = gaussian_edit((learned.shape[0], learned.shape[1]), norms(learned)["l2_norm"], rng)
    card = {"method": method, "seed": given.seed, "like_sha256": about["sha256"]}
    write_edit(given.out, noise, {**{name: about.get(name) for name in KEPT}, **card})
    log.info("%s: %s", given.out, norms(noise))


if __name__ == "__main__":
    sys.exit(run(main))
