"""The foundation model in this process: frozen, as an embedding function of pixels in [0, 1].

Noise edits live on the scale of the pixels, so the normalisation a checkpoint asks for happens in
here, after the edit, as it would behind an API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Prepare = Callable[["Tensor"], "Tensor"]
ABOUT = ("checkpoint", "backbone_sha256", "phantom", "pretrained")  # for provenance


class FoundationModel:
    """A frozen network that maps pixels to embeddings.

    Args:
        network: backbone without classifier.
        input_card: `input` of its certificate.
        device: where it runs.
        batch_size: images of one forward pass; embeddings do not depend on it beyond 1e-6.

    Raises:
        InputError: a gray network with constants for three channels.
    """

    def __init__(
        self,
        network: nn.Module,
        input_card: Mapping[str, Any],
        device: str | torch.device = "cpu",
        batch_size: int = 64,
    ) -> None:
        import torch

        self.network = network.eval().requires_grad_(False).to(device)
        self.input_size = int(input_card["size"])
        self.device, self.batch_size = torch.device(device), batch_size
        self._prepare = preparation(input_card, self.device)

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings through which gradients flow to the images, never to the weights."""
        embeddings: Tensor = self.network(self._prepare(images))
        return embeddings

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings without gradient, shape (N, 3, H, W) -> (N, F), float32."""
        import torch

        with torch.inference_mode():
            parts = [
                self.forward(part.to(self.device)).float()
                for part in torch.split(images, self.batch_size)
            ]
            return torch.cat(parts)


def preparation(input_card: Mapping[str, Any], device: torch.device) -> Prepare:
    """Return the step from edited pixels, shape (N, 3, H, W), to the network's own input.

    Args:
        input_card: `input` of a certificate. `mean_std` and `none` are of each pixel; `histogram`
            equalises each edited image. A gray network gets the mean of the channels.
        device: of the network.

    Raises:
        InputError: a gray network with constants for three channels.
    """
    import torch

    kind, is_gray = input_card["normalisation"], input_card.get("channels", "RGB") == "gray"
    if kind == "mean_std":
        if is_gray:
            advice = "set its normalisation to none or histogram"
            raise refuse("checkpoint", "constants for RGB input", "a gray network", advice)
        mean, std = (
            torch.tensor(input_card[name], dtype=torch.float32, device=device).view(3, 1, 1)
            for name in ("mean", "std")
        )
        return lambda images: (images - mean) / std
    if kind == "histogram":
        from workflow_scripts.debiased_noise.equalisation import equalised

        return lambda images: equalised(_gray(images) if is_gray else images)
    return _gray if is_gray else lambda images: images


def _gray(images: Tensor) -> Tensor:
    """Return the mean of the channels, shape (N, 1, H, W); those of an X-ray are equal."""
    return images.mean(dim=1, keepdim=True)


def load_foundation(
    backbone: Path, certificate: Path, device: str, batch_size: int = 64
) -> tuple[FoundationModel, dict[str, Any]]:
    """Return the model of a proven backbone, and its certificate."""
    from workflow_scripts.checkpoints.certificate import load_checked

    network, content = load_checked(backbone, certificate)
    return FoundationModel(network, content["input"], device, batch_size), content


def pixels(stored: NDArray[np.uint8], rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
    """Return images of a store as pixels in [0, 1].

    Args:
        stored: shape (N, H, W, 3), uint8; may be mapped from a file.
        rows: which of them.

    Returns:
        Shape (len(rows), 3, H, W), float32: divided by 255, nothing else (spec 3.1).
    """
    import torch

    from workflow_scripts.datasets.pixels import network_input

    return torch.from_numpy(network_input(stored[np.asarray(rows)], "none"))
