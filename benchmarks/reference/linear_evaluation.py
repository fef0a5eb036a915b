"""Linear evaluation the plain way: two passes over the training images, then the fits.

Written from the description of the released code, with torchvision's own network and transforms
and scikit-learn with its default threads, and nothing of the product's.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn
from torchvision import models, transforms

SHORT = transforms.Compose(
    [
        transforms.Resize(224, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
    ]
)
BATCH_SIZE = 16  # as released for large networks: gradients stay on, which takes memory
VALIDATION_SHARE = 0.2
Part = tuple[NDArray[np.float32], NDArray[np.int64]]  # features (N, F), class (N,)


@dataclass(frozen=True, slots=True)
class Found:
    """What the search and the last fit gave.

    Attributes:
        correct: share of validation images, one a fit, in the order of the path.
        n_iterations: of L-BFGS, one a fit and the last fit's.
        c: the chosen strength.
        logits: of the test images, shape (N, C).
        accuracy: on the test images.
    """

    correct: list[float]
    n_iterations: list[int]
    c: float
    logits: NDArray[np.float64]
    accuracy: float


def split(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows that train, validate, do both, and test, in the released order."""
    ordered = table.sort_values("order_released")
    both = ordered[ordered["split_released"] == "train"]
    rows = list(range(len(both)))
    np.random.RandomState(0).shuffle(rows)
    n_validation = int(np.floor(VALIDATION_SHARE * len(rows)))
    return {
        "training": both.iloc[rows[n_validation:]],
        "validation": both.iloc[rows[:n_validation]],
        "both": both,
        "test": ordered[ordered["split_released"] == "test"],
    }


def evaluate(training: Part, validation: Part, both: Part, test: Part) -> Found:
    """Search the strength on the validation part and judge the last fit on the test part."""
    model = LogisticRegression(warm_start=True)
    correct, n_iterations, best, best_c = [], [], 0.0, 0.0
    warnings.simplefilter("ignore", ConvergenceWarning)  # as the released code
    for weight_decay in torch.logspace(-6, 5, 45):
        model.C = 1 / weight_decay.item()
        model.fit(*training)
        n_iterations.append(int(model.n_iter_[0]))
        correct.append(float((model.predict(validation[0]) == validation[1]).mean()))
        if correct[-1] > best:
            best, best_c = correct[-1], model.C
    model.C = best_c
    model.fit(*both)
    n_iterations.append(int(model.n_iter_[0]))
    accuracy = float((model.predict(test[0]) == test[1]).mean())
    logits = np.asarray(model.decision_function(test[0]), dtype=np.float64)
    return Found(correct, n_iterations, best_c, logits, accuracy)


def extract(network: nn.Module, rows: pd.DataFrame, root: Path) -> Part:
    """Return features and classes of the images of `rows`."""
    parts = []
    for start in range(0, len(rows), BATCH_SIZE):
        files = [root / path for path in rows["path"].iloc[start : start + BATCH_SIZE]]
        images = torch.stack([SHORT(Image.open(file).convert("RGB")) for file in files])
        parts.append(network(images).detach().numpy())
    return np.concatenate(parts), rows["label"].to_numpy()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manifest", "root", "backbone"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--threads", type=int, required=True, help="of torch")
    parser.add_argument("--out", type=Path, required=True, help="features of the test part (.npy)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    network = models.get_model(given.architecture, weights=None)
    network.fc = nn.Identity()
    network.load_state_dict(load_file(given.backbone))
    network.eval()
    parts = {
        name: extract(network, rows, given.root)
        for name, rows in split(pd.read_parquet(given.manifest)).items()
    }
    np.save(given.out, parts["test"][0])
    found = evaluate(**parts)
    print(f"Final accuracy {100 * found.accuracy:.2f}% using hyperparameter C: {found.c:.3f}")


if __name__ == "__main__":
    sys.exit(main())
