"""The task prior: which finding causes which, as data, and as a step that writes it as CSV.

Typed from the released code's 9 x 9 matrix (CROCODILE spec section 4, golden `task_prior`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from workflow_scripts.command_line import run
from workflow_scripts.datasets.chest_findings import NINE
from workflow_scripts.files import write_text

# (cause, effect): weight of the edge; all other pairs are 0, the diagonal and No Finding included.
TASK_PRIOR: Final[dict[tuple[str, str], float]] = {
    ("Atelectasis", "Lung Opacity"): 1.0,
    ("Consolidation", "Lung Opacity"): 1.0,
    ("Edema", "Lung Opacity"): 1.0,
    ("Effusion", "Lung Opacity"): 1.0,
    ("Pneumonia", "Lung Opacity"): 1.0,
    ("Lung Opacity", "Atelectasis"): 0.2,
    ("Lung Opacity", "Consolidation"): 0.2,
    ("Lung Opacity", "Edema"): 0.2,
    ("Lung Opacity", "Effusion"): 0.2,
    ("Lung Opacity", "Pneumonia"): 0.2,
    ("Pneumothorax", "Atelectasis"): 0.85,
    ("Pneumonia", "Consolidation"): 0.7,
    ("Edema", "Consolidation"): 0.65,
    ("Effusion", "Atelectasis"): 0.5,
    ("Consolidation", "Atelectasis"): 0.4,
    ("Pneumonia", "Effusion"): 0.25,
    ("Consolidation", "Effusion"): 0.2,
    ("Cardiomegaly", "Atelectasis"): 0.1,
    ("Pneumonia", "Edema"): 0.05,
}


def prior_rows(findings: Sequence[str]) -> list[list[float]]:
    """Return the task prior for `findings` in their order, K rows (causes) of K effects."""
    return [[TASK_PRIOR.get((cause, effect), 0.0) for effect in findings] for cause in findings]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the task prior of the nine findings."""
    parser = argparse.ArgumentParser(description="Write the task prior as CSV.")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write, rows causes")
    lines = [",".join(["cause", *NINE])]
    for cause, row in zip(NINE, prior_rows(NINE), strict=True):
        lines.append(",".join([cause, *(f"{value:g}" for value in row)]))
    write_text(parser.parse_args(arguments).out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
