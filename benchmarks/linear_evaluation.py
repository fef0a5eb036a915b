"""B3: linear evaluation from image files to the accuracy, cold and with the features there.

    python -m benchmarks.linear_evaluation

Both sides are one process: start Python, read images and a converted checkpoint, fit 45 strengths
and once more. The reference forwards each training image twice and fits with the default threads.
The last line is the product with its features made before, as for a second set of options.

Equal means: the features of the test images agree to 1e-5 of the largest; and on the product's
features, in the same order of rows and on one thread, scikit-learn in a plain loop finds the same
validation accuracies and numbers of iterations and, bit for bit, the same logits of the test
images. (On its own features the reference prints another accuracy: fits that stop at 100
iterations magnify the last bit, performance facts, section 1.)
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.drawn_files import BACKBONE, Drawn, as_words, prepare, run_module
from benchmarks.reference import linear_evaluation as reference
from benchmarks.timing import Comparison, compare

CLASSES = ("none", "mild", "moderate", "severe", "proliferative")  # as EyePACS
LARGEST_DIFFERENCE = 1e-5  # of a feature, as a share of the largest
PRINTED = re.compile(r"Final accuracy .*")


def baseline(folder: Path, given: argparse.Namespace) -> str:
    """Return the line that the plain reference prints."""
    files = {"manifest": "manifest.parquet", "root": "images", "backbone": BACKBONE["backbone"]}
    options = {"architecture": given.architecture, "threads": given.threads}
    words = as_words(**files, **options, out="reference.npy")
    return PRINTED.findall(run_module(folder, "benchmarks.reference.linear_evaluation", *words))[-1]


def product(folder: Path, given: argparse.Namespace, cached: bool) -> None:
    """Run the product's steps, which leave their files in `folder`."""
    words = as_words(threads=given.threads, path="path.csv")
    words += ["--cached"] if cached else []
    run_module(folder, "benchmarks.ssl_product", "linear", *words)


def is_equal(folder: Path) -> bool:
    """Return whether the product's files hold what scikit-learn finds on the same features."""
    stored = np.load(folder / "features.npz")
    row = {name: number for number, name in enumerate(stored["image_id"].tolist())}
    rows = reference.split(pd.read_parquet(folder / "manifest.parquet"))
    parts = {
        name: (stored["features"][part["image_id"].map(row)], part["label"].to_numpy())
        for name, part in rows.items()
    }
    plain = np.load(folder / "reference.npy")
    apart = float(np.abs(parts["test"][0] - plain).max() / np.abs(plain).max())
    with threadpool_limits(limits=1):
        expected = reference.evaluate(**parts)
    *fits, final = csv.DictReader((folder / "path.csv").read_text().splitlines())
    table = pd.read_parquet(folder / "predictions.parquet").set_index("image_id")
    names = [f"score_{number}" for number in range(len(CLASSES))]
    logits = table.loc[rows["test"]["image_id"], names].to_numpy()
    chosen = [float(one["c"]) for one in fits if one["chosen"] == "true"]
    accuracy = 100 * expected.accuracy
    print(f"  features apart {apart:.1e}; product: accuracy {accuracy:.2f}%, C {chosen[0]:.3f}")
    return (
        apart <= LARGEST_DIFFERENCE
        and [float(one["score"]) for one in fits] == expected.correct
        and [int(one["n_iterations"]) for one in (*fits, final)] == expected.n_iterations
        and chosen == [expected.c]
        and bool(np.array_equal(logits, expected.logits))
    )


def sides(folder: Path, given: argparse.Namespace) -> list[Comparison]:
    """Compare the reference with the product, cold and with the features there."""
    lines: list[str] = []

    def plain() -> str:
        lines.append(baseline(folder, given))
        return lines[-1]

    compared = [
        compare(
            f"linear {given.architecture}, {given.n_training} + {given.n_test} images, {name}",
            plain,
            partial(product, folder, given, cached),
            lambda _, __: is_equal(folder),
            given.repeats,
        )
        for name, cached in (("cold", False), ("features cached", True))
    ]
    ratios = ", ".join(f"{one.wall_ratio:.1f}x" for one in compared)
    print(f"  wall ratios {ratios}; of the reference: {lines[-1]}")
    return compared


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare, run both sides in turn, print two lines; fails only where the results differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--architecture", default="resnet18")
    for name, value, meaning in (
        ("n-training", 400, "training images, the validation part among them"),
        ("n-test", 200, "test images"),
        ("side-px", 512, "side of an image, a multiple of 8"),
        ("threads", 2, "of torch for both sides, of the fits for neither"),
        ("repeats", 1, "runs of each side"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{meaning} ({value})")
    given = parser.parse_args(arguments)
    n_images = given.n_training + given.n_test
    drawn = Drawn(n_images, given.n_training, given.side_px, CLASSES, ".jpeg")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, drawn, "short224", given.architecture)
        compared = sides(folder, given)
    return 0 if all(one.equal for one in compared) else 1


if __name__ == "__main__":
    sys.exit(main())
