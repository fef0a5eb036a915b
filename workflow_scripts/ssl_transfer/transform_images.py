"""Draw the transformed versions of an image: Pillow images in, uint8 pixels out.

torchvision's functions on Pillow images, as in the released code (goldens
`invariance_transform_images`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workflow_scripts.datasets.geometry import FILTERS, Geometry, prepare, resized_size
from workflow_scripts.ssl_transfer.elastic import deformed
from workflow_scripts.ssl_transfer.transform_grid import BLUR_KERNEL, CROP_PX, Step

Draw = Callable[[Image.Image, Step, np.random.Generator], Image.Image]


def versions(
    image: Image.Image,
    transform: str,
    steps: list[Step],
    geometry: Geometry,
    rng: np.random.Generator,
    resize_first: bool,
) -> NDArray[np.uint8]:
    """Return the transformed versions of an image, in the order of the grid.

    Args:
        image: mode RGB, in its original size.
        transform: one of `transform_grid.GRIDS`.
        steps: of its grid, K of them.
        geometry: resize and crop of the clean image.
        rng: for the elastic deformation, the only random one.
        resize_first: True: the image is resized, then transformed, then cropped, so that a step
            given in pixels means the same in every data set. False: transformed in its original
            size, then resized and cropped, as in the released code.

    Returns:
        Shape (K, crop, crop, 3), uint8. A resized crop is not cropped again.
    """
    if resize_first:
        size = resized_size(image.size, geometry)
        image = image.resize(size, FILTERS[geometry.interpolation])
    draw = DRAWS[transform]
    pictures = [draw(image, step, rng) for step in steps]
    if transform == "resized_crop":
        return np.stack([np.asarray(picture) for picture in pictures])
    return np.stack([prepare(picture, geometry) for picture in pictures])


def _rotation(image: Image.Image, step: Step, _: np.random.Generator) -> Image.Image:
    from torchvision.transforms import functional

    drawn: Image.Image = functional.rotate(image, step["angle"])
    return drawn


def _affine(image: Image.Image, step: Step, _: np.random.Generator) -> Image.Image:
    from torchvision.transforms import functional

    drawn: Image.Image = functional.affine(
        image, step["angle"], list(step["translate"]), step["scale"], list(step["shear"])
    )
    return drawn


def _resized_crop(image: Image.Image, step: Step, _: np.random.Generator) -> Image.Image:
    left, top = step["left"], step["top"]
    box = (left, top, left + step["width"], top + step["height"])  # Pillow rounds the corners
    return image.crop(box).resize((CROP_PX, CROP_PX), Image.Resampling.BILINEAR)


def _deform(image: Image.Image, step: Step, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(deformed(np.asarray(image), step["sigma"], rng))


def _switched(name: str) -> Draw:
    """Return the drawing of a transform that is off or on."""

    def draw(image: Image.Image, step: Step, _: np.random.Generator) -> Image.Image:
        from torchvision.transforms import functional

        if not step["apply"]:
            return image
        words = [3] if name == "rgb_to_grayscale" else []  # channels of the gray image
        drawn: Image.Image = getattr(functional, name)(image, *words)
        return drawn

    return draw


def _adjusted(name: str) -> Draw:
    """Return the drawing of a transform with one number."""

    def draw(image: Image.Image, step: Step, _: np.random.Generator) -> Image.Image:
        from torchvision.transforms import functional

        drawn: Image.Image = getattr(functional, name)(image, step["factor"])
        return drawn

    return draw


def _blur(image: Image.Image, step: Step, _: np.random.Generator) -> Image.Image:
    from torchvision.transforms import functional

    sizes, sigmas = [BLUR_KERNEL] * 2, [step["sigma"]] * 2
    drawn: Image.Image = functional.gaussian_blur(image, sizes, sigmas)
    return drawn


def _posterize(image: Image.Image, step: Step, _: np.random.Generator) -> Image.Image:
    from torchvision.transforms import functional

    drawn: Image.Image = functional.posterize(image, step["bits"])
    return drawn


DRAWS: dict[str, Draw] = {
    "rotation": _rotation,
    "translation": _affine,
    "scale": _affine,
    "shear": _affine,
    "resized_crop": _resized_crop,
    "h_flip": _switched("hflip"),
    "v_flip": _switched("vflip"),
    "grayscale": _switched("rgb_to_grayscale"),
    "invert": _switched("invert"),
    "equalize": _switched("equalize"),
    "deform": _deform,
    "brightness": _adjusted("adjust_brightness"),
    "contrast": _adjusted("adjust_contrast"),
    "saturation": _adjusted("adjust_saturation"),
    "hue": _adjusted("adjust_hue"),
    "blur": _blur,
    "sharpness": _adjusted("adjust_sharpness"),
    "posterize": _posterize,
}
