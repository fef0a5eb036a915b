"""Few-shot evaluation the plain way: every image of every episode is read and forwarded.

Written from the description of the released code, with torch's own generator and torchvision's
own network and transforms, and nothing of the product's; the speed and the printed line of the
product are compared with it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models, transforms

IMAGENET = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SQUASH = transforms.Compose(
    [
        transforms.Resize((257, 257)),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        IMAGENET,
    ]
)


def build(architecture: str, weights: Path) -> nn.Module:
    """Seed, draw the random initialisation (it moves torch's generator), load the weights."""
    torch.manual_seed(0)
    network = models.get_model(architecture, weights=None)
    last = "classifier" if architecture.startswith("densenet") else "fc"
    setattr(network, last, nn.Identity())
    network.load_state_dict(load_file(weights))
    return network.eval()


def draw_int64() -> int:
    return int(torch.empty((), dtype=torch.int64).random_())


def draw_class(files: Sequence[Path], n_images: int) -> list[Path]:
    draw_int64()  # base seed of the class's loader
    generator = torch.Generator().manual_seed(draw_int64())
    order = torch.randperm(len(files), generator=generator).tolist()
    return [files[i] for i in order[:n_images]]


def read(files: Sequence[Path]) -> Tensor:
    return torch.stack([SQUASH(Image.open(file).convert("RGB")) for file in files])


def episode_accuracy(
    network: nn.Module, classes: Sequence[Sequence[Path]], given: argparse.Namespace
) -> float:
    n_images = given.n_support + given.n_query
    chosen = torch.randperm(len(classes))[: given.n_way].tolist()
    images = [read(draw_class(classes[i], n_images)) for i in chosen]
    order = torch.randperm(n_images)
    support = torch.cat([image[order[: given.n_support]] for image in images])
    query = torch.cat([image[order[given.n_support :]] for image in images])
    prototypes = network(support).reshape(given.n_way, given.n_support, -1).mean(1)
    distances = (network(query)[:, None] - prototypes[None]).pow(2).sum(2)
    prediction = torch.log_softmax(-distances, dim=1).argmax(1)
    truth = torch.arange(given.n_way).repeat_interleave(given.n_query)
    return float((prediction == truth).float().mean())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manifest", "root", "backbone"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--architecture", required=True)
    for name in ("n-way", "n-support", "n-query", "n-episodes", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    table = pd.read_parquet(given.manifest)
    table = table.sort_values(["split_released", "order_released"], ascending=[False, True])
    classes = [[given.root / path for path in rows["path"]] for _, rows in table.groupby("label")]
    network = build(given.architecture, given.backbone)
    draw_int64()  # base seed of the loader of episodes
    with torch.inference_mode():
        accuracies = 100 * np.array(
            [episode_accuracy(network, classes, given) for _ in range(given.n_episodes)]
        )
    half_width = 1.96 * accuracies.std() / math.sqrt(len(accuracies))
    print(f"Test Acc = {accuracies.mean():4.2f}% +- {half_width:4.2f}%")


if __name__ == "__main__":
    sys.exit(main())
