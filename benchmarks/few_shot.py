"""B1 and B2: few-shot evaluation, each image once against each image in each episode.

    python -m benchmarks.few_shot                                             # B1
    python -m benchmarks.few_shot --architecture resnet50 --n-way 2 --n-episodes 20   # B2

Both sides are one process: start Python, import torch, read image files and a converted
checkpoint, print the accuracy, which must be the same text. (In the workflow the product's steps
fork from a process that has imported torch already.)
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.drawn_files import BACKBONE, Drawn, as_words, prepare, run_module
from benchmarks.timing import compare

CLASSES = ("Normal", "Benign", "InSitu", "Invasive")  # as BACH
PRINTED = re.compile(r"Test Acc = .*%")


def printed(said: str) -> str:
    """Return the line with the accuracy."""
    return PRINTED.findall(said)[-1]


def baseline(folder: Path, given: argparse.Namespace) -> str:
    """Return the line that the plain reference prints."""
    files = {"manifest": "manifest.parquet", "root": "images", "backbone": BACKBONE["backbone"]}
    words = as_words(**files, architecture=given.architecture, **run_options(given))
    return printed(run_module(folder, "benchmarks.reference.few_shot", *words))


def product(folder: Path, given: argparse.Namespace) -> str:
    """Return the line that the product prints: store, features and episodes, in one process."""
    words = as_words(**run_options(given))
    return printed(run_module(folder, "benchmarks.ssl_product", "few_shot", *words))


def run_options(given: argparse.Namespace) -> dict[str, int]:
    """Return what is the same for both sides: the size of the episodes, and the threads."""
    names = ("n_way", "n_support", "n_query", "n_episodes", "threads")
    return {name: getattr(given, name) for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare, run both sides in turn, print one line; fails only where the accuracies differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--architecture", default="resnet18")
    for name, value, meaning in (
        ("n-way", 4, "classes an episode"),
        ("n-support", 20, "labelled images a class"),
        ("n-query", 15, "images to classify a class"),
        ("n-episodes", 40, "episodes; the paper has 600"),
        ("n-images", 160, "images of the data set"),
        ("side-px", 512, "side of an image, a multiple of 8"),
        ("threads", 1, "for both sides"),
        ("repeats", 1, "runs of each side"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{meaning} ({value})")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_training = round(0.8 * given.n_images)
        drawn = Drawn(given.n_images, n_training, given.side_px, CLASSES, ".tif")
        prepare(folder, drawn, "squash224", given.architecture)
        comparison = compare(
            f"few-shot {given.architecture} {given.n_way}-way, {given.n_episodes} episodes",
            lambda: baseline(folder, given),
            lambda: product(folder, given),
            lambda expected, found: expected == found,
            given.repeats,
        )
    return 0 if comparison.equal else 1


if __name__ == "__main__":
    sys.exit(main())
