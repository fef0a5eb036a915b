"""The deterministic part of a preprocessing: from a decoded image to uint8 pixels.

Pillow and numpy only, bit-identical to the torchvision transforms of the same name on Pillow
images. A new pipeline is one line in `GEOMETRIES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRAY_MODES: Final = frozenset({"1", "L", "LA"})  # gray: resized once, then copied to R, G and B
DEEP_MODES: Final = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})  # integers over 8 bits
FILTERS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


BitDepth = int | Literal["stretch"] | None  # range of gray images deeper than 8 bits


class UnusablePixels(ValueError):
    """The file decodes, but its pixels have no agreed meaning as 8-bit values."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A resize followed by a centre crop, perhaps of an image stretched and made gray before.

    Attributes:
        resize: `squash` makes both sides `resize_to` pixels, whatever the aspect ratio;
            `shorter` makes the shorter side `resize_to` and keeps the aspect ratio.
        resize_to: pixels.
        interpolation: Pillow's filter, with antialiasing.
        crop: side of the square cut from the centre, pixels.
        stretch: first stretch all channels between the darkest and brightest value of the image.
        gray: one channel instead of three.
    """

    resize: Literal["squash", "shorter"]
    resize_to: int
    interpolation: Literal["bilinear", "bicubic"]
    crop: int
    stretch: bool = False
    gray: bool = False

    @property
    def channels(self) -> int:
        """Channels of the stored image."""
        return 1 if self.gray else 3

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize_to:
            raise ValueError(f"crop {self.crop} has to lie within 1 and {self.resize_to}")


GEOMETRIES: Final[dict[str, Geometry]] = {
    "squash224": Geometry("squash", 257, "bilinear", 224),  # spec P1; 257 = int(1.15 * 224)
    "short224": Geometry("shorter", 224, "bicubic", 224),  # spec P2
    "short256": Geometry("shorter", 256, "bilinear", 224),  # spec P3
    "exact224": Geometry("squash", 224, "bilinear", 224),  # debiased noise spec 3.1
    "exact96": Geometry("squash", 96, "bilinear", 96),  # the same for small networks (demo)
    # CROCODILE spec 2.5 at the published size, and at a laptop's.
    "stretch320": Geometry("squash", 320, "bilinear", 320, stretch=True, gray=True),
    "stretch64": Geometry("squash", 64, "bilinear", 64, stretch=True, gray=True),
}


def prepare(
    image: Image.Image, geometry: Geometry, bit_depth: BitDepth = None
) -> NDArray[np.uint8]:
    """Return the RGB (or gray) pixels of `image` in `geometry`.

    As in the released code the first frame is used, transparency is dropped (not blended) and
    the orientation tag of a photograph is not applied.

    Args:
        image: an open Pillow image of any mode.
        geometry: resize and crop.
        bit_depth: true number of bits of a gray image deeper than 8 (12 for most radiographs in
            16-bit files); values are scaled from 0 ... 2**bit_depth - 1 to 0 ... 255. `stretch`:
            the number varies from image to image, and each is stretched by `stretch_contrast`.

    Returns:
        Pixels, shape (crop, crop, 3), uint8; with one channel where the geometry is gray.

    Raises:
        UnusablePixels: a deep image without `bit_depth` or with values beyond it. Pillow's own
            conversion to RGB would clip all values above 255 to white, silently.
        OSError: the file is truncated or damaged.

    Source: ssl_transfer spec 4.1.

    >>> prepare(Image.new("L", (300, 200), 7), GEOMETRIES["short224"]).shape
    (224, 224, 3)
    """
    if geometry.stretch and image.mode not in DEEP_MODES:
        image = _stretched(image)
    elif geometry.stretch and bit_depth is not None:  # whatever its bits, as all other images
        bit_depth = "stretch"
    plain = to_eight_bit(image, bit_depth)
    plain = plain.convert("L") if geometry.gray else plain
    resized = plain.resize(resized_size(plain.size, geometry), FILTERS[geometry.interpolation])
    pixels = np.asarray(resized.crop(_centre_box(resized.size, geometry.crop)))
    if pixels.ndim == 3:
        return pixels
    return np.repeat(pixels[:, :, None], geometry.channels, axis=2)


def to_eight_bit(image: Image.Image, bit_depth: BitDepth = None) -> Image.Image:
    """Return `image` as mode `L` when it is gray and as `RGB` otherwise; see `prepare`."""
    _refuse_narrowed(image)
    if image.mode in DEEP_MODES or image.mode == "F":
        return _scale_deep(image, bit_depth)
    return image.convert("L" if image.mode in GRAY_MODES else "RGB")


def resized_size(size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """Return (width, height) after the resize; the longer side is rounded down.

    >>> resized_size((300, 200), GEOMETRIES["short224"])
    (336, 224)
    """
    if geometry.resize == "squash":
        return geometry.resize_to, geometry.resize_to
    width, height = size
    longer = int(geometry.resize_to * max(size) / min(size))
    return (geometry.resize_to, longer) if width <= height else (longer, geometry.resize_to)


def _centre_box(size: tuple[int, int], crop: int) -> tuple[int, int, int, int]:
    # round() goes to the even neighbour at one half, as torchvision's crop does.
    left, top = (round((side - crop) / 2.0) for side in size)
    return left, top, left + crop, top + crop


def _refuse_narrowed(image: Image.Image) -> None:
    """Refuse 16-bit colour, of which Pillow keeps the upper 8 bits without a word."""
    for tile in getattr(image, "tile", []):
        layout = tile[3][0] if isinstance(tile[3], tuple) else tile[3]  # such as RGB;16B
        if ";16" in str(layout) and image.mode not in DEEP_MODES:
            raise UnusablePixels(f"colour with 16 bits a channel (stored as {layout}), expected 8")


def stretch_contrast(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return `values` stretched to 0 ... 255 between their lowest and highest, decimals cut off.

    A constant image is only cast. Every channel counts, as in the released code.

    Source: CROCODILE spec 2.5, golden `preprocess`.

    >>> stretch_contrast(np.array([[0, 1000], [2000, 65535]])).tolist()
    [[0, 3], [7, 255]]
    """
    low, high = int(values.min()), int(values.max())
    if low == high:
        return values.astype(np.uint8)
    wide = values.astype(np.float64)
    return (255 * (wide - low) / (high - low)).astype(np.uint8)


def _stretched(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits a channel with all its channels stretched together."""
    _refuse_narrowed(image)
    plain = image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGB")
    return Image.fromarray(stretch_contrast(np.asarray(plain)), plain.mode)


def _scale_deep(image: Image.Image, bit_depth: BitDepth) -> Image.Image:
    if bit_depth is None or image.mode == "F":
        raise UnusablePixels(
            f"mode {image.mode}: more than 8 bits a pixel and no bit depth given; "
            "expected 8 bits, or an integer image with the option bit_depth"
        )
    values = np.asarray(image).astype(np.int64)
    if bit_depth == "stretch":
        if values.min() == values.max():
            raise UnusablePixels(f"every pixel has the value {values.min()}: nothing to stretch")
        return Image.fromarray(stretch_contrast(values))
    highest = 2**bit_depth - 1
    if values.min() < 0 or values.max() > highest:
        raise UnusablePixels(
            f"values {values.min()} to {values.max()}, expected 0 to {highest} for {bit_depth} bits"
        )
    return Image.fromarray(np.rint(values * (255.0 / highest)).astype(np.uint8))
