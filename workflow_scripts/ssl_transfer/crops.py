"""The augmentation of fine-tuning: a random part of the image, resized, flipped at random.

Source: SSL transfer, spec section 4.1, P6: torchvision's RandomResizedCrop and
RandomHorizontalFlip on Pillow images.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workflow_scripts.datasets.decoded import Box, PixelSource

SCALE = (0.08, 1.0)  # share of the image's area (spec P6)
RATIO = (3 / 4, 4 / 3)  # width over height (spec P6)
FLIP = 0.5  # chance of a mirror image (spec P6)
TRIES = 10  # draws before the centre is taken (torchvision)


def random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """Return a random part of an image: area uniform, aspect ratio uniform in its logarithm.

    After ten draws that do not fit: the largest centred part within the aspect ratios.
    """
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(TRIES):
        area = width * height * rng.uniform(*SCALE)
        ratio = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(0, height - h + 1))
            left = int(rng.integers(0, width - w + 1))
            return left, top, left + w, top + h
    return centred_box(width, height)


def centred_box(width: int, height: int) -> Box:
    """Return the largest centred part whose aspect ratio lies within `RATIO`.

    >>> centred_box(300, 100), centred_box(100, 100)
    ((83, 0, 216, 100), (0, 0, 100, 100))
    """
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(height * RATIO[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def training_pixels(
    source: PixelSource, side: int, image: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return one augmented view of an image, shape (side, side, 3)."""
    part = source.crop(image, lambda width, height: random_box(width, height, rng))
    resized = np.asarray(part.resize((side, side), Image.Resampling.BICUBIC))
    if rng.random() < FLIP:
        resized = resized[:, ::-1]
    if resized.ndim == 2:
        resized = np.repeat(resized[:, :, None], 3, axis=2)
    return np.ascontiguousarray(resized)
