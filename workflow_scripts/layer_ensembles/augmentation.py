"""Training augmentation of lesions (2D) and hearts (3D), as the released code executes it.

All functions take and return arrays of shape (D, H, W); a 2D image is one slice. Randomness is
an argument. Source: spec sections 3.1 to 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.segmentation import Volume
from workflow_scripts.layer_ensembles.protocols import Options

Image = NDArray[np.float32]
Mask = NDArray[np.uint8]

FLIP_AXIS = 0.5  # chance of each axis once flipping was drawn (torchio)
KERNEL_SIZES = (1, 3, 5, 7)  # of the random convolution
CONVOLVE = 0.2  # chance that it is applied
SWAPS = 10  # pairs of patches
ANGLE = 15.0  # degrees, largest rotation about each axis
ROTATE = 0.5


@dataclass(frozen=True, slots=True)
class Chances:
    """What differs between the data sets.

    Attributes:
        flip: chance that flipping is considered.
        swap: chance that patches are swapped.
        swap_sides: sides of a patch along D, H, W, pixels.
    """

    flip: float
    swap: float
    swap_sides: tuple[int, int, int]


LESIONS = Chances(flip=0.2, swap=0.2, swap_sides=(1, 10, 10))
HEARTS = Chances(flip=0.5, swap=0.3, swap_sides=(1, 10, 10))


@dataclass(frozen=True, slots=True)
class RandomConvolution:
    """A drawn convolution, mixed with the image.

    Attributes:
        kernel: shape (k, k), normal with standard deviation 1/k, no bias.
        share: of the convolved image in the mixture, 0 to 1.
    """

    kernel: NDArray[np.float64]
    share: float

    def __call__(self, image: Image) -> Image:
        """Return share * conv(x) + (1 - share) * x, with zeros outside, slice by slice."""
        from scipy.ndimage import correlate

        convolved = correlate(image, self.kernel[None].astype(np.float32), mode="constant")
        mixed: Image = np.float32(self.share) * convolved + np.float32(1 - self.share) * image
        return mixed


def draw_convolution(rng: np.random.Generator) -> RandomConvolution:
    """Draw kernel size, weights and mixing share."""
    size = int(rng.choice(KERNEL_SIZES))
    return RandomConvolution(rng.normal(0, 1 / size, (size, size)), float(rng.random()))


def flip(image: Image, mask: Mask, chance: float, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Flip rows and columns, each with chance one half, once flipping was drawn at all."""
    if rng.random() >= chance:
        return image, mask
    axes = tuple(axis for axis in (1, 2) if rng.random() < FLIP_AXIS)
    return np.flip(image, axes), np.flip(mask, axes)


def swap_patches(
    image: Image, sides: tuple[int, int, int], rng: np.random.Generator, *, between_slices: bool
) -> Image:
    """Return the image with ten pairs of patches exchanged; masks stay as they are.

    Corners are drawn with an exclusive upper bound, so that the last position is never used; the
    second patch is drawn again only where it is the first (torchio 0.18.76).

    Args:
        image: shape (D, H, W).
        sides: of a patch, at most those of the image.
        rng: the source of the corners.
        between_slices: the two patches may lie in different slices.
    """
    sides = tuple(min(s, n) for s, n in zip(sides, image.shape, strict=True))
    room = np.maximum(np.array(image.shape) - sides, 1)
    swapped = image.copy()
    for _ in range(SWAPS):
        first = rng.integers(0, room)
        second = first
        while np.array_equal(second, first) and room.prod() > 1:
            second = rng.integers(0, room)
            if not between_slices:
                second[0] = first[0]
                if room[1:].prod() == 1:
                    break
        a, b = (
            tuple(slice(at, at + side) for at, side in zip(corner, sides, strict=True))
            for corner in (first, second)
        )
        swapped[a], swapped[b] = swapped[b].copy(), swapped[a].copy()
    return swapped


def rotate(
    image: Image, mask: Mask, spacing_mm: Sequence[float], rng: np.random.Generator
) -> tuple[Image, Mask]:
    """Rotate a volume about each of its three axes through its centre, in voxels' millimetres.

    Angles are uniform in -15 to 15 degrees; the image is interpolated linearly and filled with its
    minimum, the mask takes the nearest voxel and is filled with background. Voxels are far from
    cubes (9.2 x 1.32 x 1.32 mm at full size), so the rotation is worked out in millimetres.
    """
    from scipy.ndimage import affine_transform

    turn = rotation_matrix(np.deg2rad(rng.uniform(-ANGLE, ANGLE, 3)))
    spacing = np.diag(spacing_mm)
    matrix = np.linalg.inv(spacing) @ turn @ spacing  # from output to input voxels
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - matrix @ centre
    low = float(image.min())
    turned = affine_transform(image, matrix, offset, order=1, mode="constant", cval=low)
    labels = affine_transform(mask, matrix, offset, order=0, mode="constant", cval=0)
    return turned, labels


def rotation_matrix(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation about D, then H, then W, shape (3, 3), of angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[[one, other], [one, other]] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def z_norm(image: Image, inside: NDArray[np.bool_] | None = None) -> Image:
    """Return (x - mean) / std, both over the voxels `inside` (None: all), std with n - 1.

    Raises:
        ValueError: the voxels are all alike.

    Source: golden `torchio_0_18_76`.
    """
    chosen = (image if inside is None else image[inside]).astype(np.float64)
    deviation = chosen.std(ddof=1) if chosen.size > 1 else 0.0
    if not deviation > 0:
        raise ValueError("all voxels are alike: no z-norm")
    result: Image = ((image - chosen.mean()) / deviation).astype(np.float32)
    return result


def rescale(image: Image, inside: NDArray[np.bool_]) -> Image:
    """Clip to the range of the voxels `inside`, then map lowest and highest to 0 and 1."""
    low, high = image[inside].min(), image[inside].max()
    if not high > low:
        raise ValueError("all voxels of the mask are alike: no range")
    result: Image = ((np.clip(image, low, high) - low) / (high - low)).astype(np.float32)
    return result


def prepared(image: Image, mask: Mask, options: Options) -> Image:
    """Return a test image as the network sees it."""
    if options.normalisation == "mask":
        inside = mask > 0
        return z_norm(rescale(image, inside), inside)
    return z_norm(image)


def augmented_lesion(
    image: Image, mask: Mask, options: Options, convolution: RandomConvolution,
    rng: np.random.Generator,
) -> tuple[Image, Mask]:  # fmt: skip
    """Return a training image and its mask: flip, random convolution, patch swap, z-norm.

    Args:
        image: shape (1, H, W).
        mask: the same shape.
        options: of the protocol.
        convolution: drawn once for the whole training; replaced where the protocol redraws.
        rng: this case's, in this epoch.
    """
    if options.normalisation == "mask":
        image = prepared(image, mask, options)
    image, mask = flip(image, mask, LESIONS.flip, rng)
    if options.redraw_random_convolution:
        convolution = draw_convolution(rng)
    if rng.random() < CONVOLVE:
        image = convolution(image)
    if rng.random() < LESIONS.swap:
        image = swap_patches(image, LESIONS.swap_sides, rng, between_slices=True)
    return (image if options.normalisation == "mask" else z_norm(image)), mask


def augmented_heart(
    volume: Volume, options: Options, rng: np.random.Generator
) -> tuple[Image, Mask]:
    """Return a training volume and its mask: flip, patch swap, rotation, z-norm."""
    image, mask, spacing_mm = volume
    image, mask = flip(image, mask, HEARTS.flip, rng)
    if rng.random() < HEARTS.swap:
        between = options.swap_between_slices
        image = swap_patches(image, HEARTS.swap_sides, rng, between_slices=between)
    if rng.random() < ROTATE:
        image, mask = rotate(image, mask, spacing_mm, rng)
    return z_norm(image), mask
