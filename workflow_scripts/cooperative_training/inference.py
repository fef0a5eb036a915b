"""Segmenting volumes with trained networks: crop, chunks of slices, corrections, back in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workflow_scripts.cooperative_training.augmentation import rescale
from workflow_scripts.cooperative_training.methods import METHODS
from workflow_scripts.cooperative_training.networks import CooperativeNetworks, map_of_logits
from workflow_scripts.cooperative_training.protocols import TRAINING
from workflow_scripts.cooperative_training.slices import from_crop, to_crop
from workflow_scripts.files import read_json, sha256_of
from workflow_scripts.problems import refuse
from workflow_scripts.speed import exact_arithmetic

CHUNK = 10  # slices of one forward pass (spec section 12)
Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Segmenter:
    """Trained networks and what belongs to them.

    Attributes:
        networks: in evaluation mode, on `device`.
        record: what `train_segmenter` wrote of the training.
        device: where they run.
    """

    networks: CooperativeNetworks
    record: dict[str, Any]
    device: torch.device

    @property
    def crop(self) -> int:
        """Pixels of the networks' input."""
        return int(self.record["crop"])

    def segment(
        self, image: NDArray[np.floating], passes: Sequence[int], rescales_slices: bool
    ) -> dict[int, Labels]:
        """Return the classes of a volume after each number of corrections.

        Args:
            image: gray values, shape (D, H, W), any size.
            passes: numbers of corrections by the slow network; 0 is the fast network alone.
            rescales_slices: each slice's range becomes [0, 1] before.

        Returns:
            Shape (D, H, W) each; background outside the crop.
        """
        parts: dict[int, list[Labels]] = {number: [] for number in passes}
        for chunk in self._chunks(image, rescales_slices):
            for number, labels in self._labels(chunk, passes).items():
                parts[number].append(labels)
        return {
            number: from_crop(np.concatenate(labels), image.shape, self.crop)
            for number, labels in parts.items()
        }

    def entropy(self, image: NDArray[np.floating], rescales_slices: bool) -> float:
        """Return the mean predictive entropy of the fast network over the crop, nat.

        Arguments as `segment`.
        """
        total, n_pixels = 0.0, 0
        for chunk in self._chunks(image, rescales_slices):
            with torch.inference_mode():
                logs = torch.log_softmax(self.networks.segment(chunk).double(), dim=1)
            per_pixel = -(logs.exp() * logs).sum(dim=1)
            total, n_pixels = total + float(per_pixel.sum()), n_pixels + per_pixel.numel()
        return total / n_pixels

    def _chunks(self, image: NDArray[np.floating], rescales_slices: bool) -> Iterator[torch.Tensor]:
        """Yield the crop of a volume in parts of CHUNK slices, shape (N, 1, C, C)."""
        cropped = torch.from_numpy(to_crop(image, self.crop).astype(np.float32))
        if rescales_slices:
            cropped = rescale(cropped)
        for first in range(0, len(cropped), CHUNK):
            yield cropped[first : first + CHUNK, None].to(self.device)

    def _labels(self, images: torch.Tensor, passes: Sequence[int]) -> dict[int, Labels]:
        """Return the classes of slices (N, 1, C, C), each correction made once."""
        found: dict[int, Labels] = {}
        with torch.inference_mode():
            logits = self.networks.segment(images)
            for number in range(max(passes) + 1):
                if number:
                    logits = self.networks.correct(map_of_logits(logits))
                if number in passes:
                    found[number] = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
        return found


def load_segmenter(weights: Path, record: Path, device: torch.device) -> Segmenter:
    """Return the networks of a training.

    Raises:
        InputError: the weights are not those of the record, or do not fit the networks.
    """
    from safetensors.torch import load_file

    about = read_json(record)
    found = sha256_of(weights)
    if found != about["weights_sha256"]:
        expected, advice = f"the weights of {record}", "train again"
        raise refuse(str(weights), expected, f"SHA-256 {found[:12]}...", advice)
    method = METHODS[about["method"]]
    output = TRAINING[about["protocol"]].image_output
    networks = CooperativeNetworks(about["width"], method.sharing, output)
    networks.load_state_dict(load_file(weights))
    networks = networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Segmenter(networks.eval(), about, device)


def device_of(gpus: int) -> torch.device:
    """Return where to run, in full precision; refuses a GPU that is not there."""
    exact_arithmetic()
    if gpus and not torch.cuda.is_available():
        raise refuse("--gpus", "a GPU", "none visible", "ask the job for one, or give --gpus 0")
    return torch.device("cuda" if gpus else "cpu")
