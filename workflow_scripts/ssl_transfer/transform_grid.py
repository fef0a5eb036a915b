"""The synthetic transforms of the invariance measure and their grids of parameters.

A transform has k versions of an image, the k steps of its grid.
Source: SSL transfer, spec 11.3 (goldens `invariance_transform_params`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import nearest, refuse
from workflow_scripts.ssl_transfer.transform_names import N_POSTERIZED, ON_OFF, OWN_K

Step = Mapping[str, Any]  # parameters of one version of the image
REFERENCE_PX = 256  # side that the fractions of translations and crops refer to (released code)
MAX_SHIFT = 0.0625  # of the side, to the left and up
MAX_SHEAR_DEGREES = 160.0
CROP_START, CROP_SIZES = 0.25, (0.75, 0.25)  # of the side: largest offset, largest and least size
CROP_PX = 224
SCALES, FACTORS, SHARPNESSES = (0.25, 2.0), (0.25, 5.0), (1.0, 30.0)
BLUR_KERNEL, BLUR_SIGMAS = 23, (1e-5, 20.0)  # pixels
DEFORM_SIGMAS = (10.0, 50.0, 8)  # pixels: first, last, number; they repeat over the versions
MAX_K = {"deform": 256}


def _rotation(k: int, _: float) -> list[Step]:
    return [{"angle": angle} for angle in _steps(0, 360, k + 1)[:k]]


def _translation(k: int, shear: float) -> list[Step]:
    shifts = [
        REFERENCE_PX * a for a in _steps(-MAX_SHIFT, MAX_SHIFT, _root("translation", k, 2) + 1)
    ]
    plain = {"angle": 0.0, "scale": 1.0, "shear": (shear, 0.0)}
    return [{**plain, "translate": (a, b)} for a in shifts[:-1] for b in shifts[:-1]]


def _scale(k: int, shear: float) -> list[Step]:
    plain = {"angle": 0.0, "translate": (0.0, 0.0), "shear": (shear, 0.0)}
    return [{**plain, "scale": scale} for scale in _steps(*SCALES, k)]


def _shear(k: int, _: float) -> list[Step]:
    angles = _steps(-MAX_SHEAR_DEGREES, MAX_SHEAR_DEGREES, _root("shear", k, 2) + 1)[:-1]
    plain = {"angle": 0.0, "translate": (0.0, 0.0), "scale": 1.0}
    return [{**plain, "shear": (a, b)} for a in angles for b in angles]


def _resized_crop(k: int, _: float) -> list[Step]:
    n = _root("resized_crop", k, 4)
    starts = [REFERENCE_PX * a for a in _steps(0, CROP_START, n)]
    sizes = [REFERENCE_PX * a for a in _steps(*CROP_SIZES, n)]
    return [
        {"top": top, "left": left, "height": height, "width": width}
        for top in starts
        for left in starts
        for height in sizes
        for width in sizes
    ]


def _on_off(k: int, _: float) -> list[Step]:
    return [{"apply": False}, {"apply": True}]


def _deform(k: int, _: float) -> list[Step]:
    sigmas = [int(sigma) for sigma in np.linspace(*DEFORM_SIGMAS[:2], int(DEFORM_SIGMAS[2]))]
    return [{"sigma": float(sigmas[i % len(sigmas)])} for i in range(k)]


def _named(name: str, low: float, high: float) -> Callable[[int, float], list[Step]]:
    return lambda k, _: [{name: value} for value in _steps(low, high, k)]


def _posterize(k: int, _: float) -> list[Step]:
    return [{"bits": bits} for bits in range(1, N_POSTERIZED + 1)]


GRIDS: dict[str, Callable[[int, float], list[Step]]] = {
    "rotation": _rotation,
    "translation": _translation,
    "scale": _scale,
    "shear": _shear,
    "resized_crop": _resized_crop,
    **dict.fromkeys(ON_OFF, _on_off),
    "deform": _deform,
    "brightness": _named("factor", *FACTORS),
    "contrast": _named("factor", *FACTORS),
    "saturation": _named("factor", *FACTORS),
    "hue": _named("factor", -0.5, 0.5),
    "blur": _named("sigma", *BLUR_SIGMAS),
    "sharpness": _named("factor", *SHARPNESSES),
    "posterize": _posterize,
}


def grid(transform: str, k: int, extra_shear_degrees: float = 0.0) -> list[Step]:
    """Return the parameters of the k versions of an image.

    Args:
        transform: one of `GRIDS`.
        k: versions; a square for translation and shear, a fourth power for resized_crop.
        extra_shear_degrees: along x in translation and scale; the released code has 1 by mistake.

    Raises:
        InputError: an unknown transform, or a k that it cannot have.

    >>> [step["factor"] for step in grid("hue", 5)]
    [-0.5, -0.25, 0.0, 0.25, 0.5]
    """
    if transform not in GRIDS:
        step = nearest(transform, GRIDS)
        raise refuse("transform", f"one of {', '.join(GRIDS)}", repr(transform), step)
    fixed, most = OWN_K.get(transform), MAX_K.get(transform, k)
    if k < 1 or k > most or fixed not in (None, k):
        expected = "k of at least 1" + (f" and at most {most}" if k > most else "")
        expected = f"k = {fixed}" if fixed else expected
        raise refuse(f"transform {transform}", expected, f"k = {k}", "correct or leave out k")
    return GRIDS[transform](k, extra_shear_degrees)


def _steps(low: float, high: float, count: int) -> list[float]:
    """Return `count` numbers from `low` to `high`, ends included, rounded as torch's float32."""
    values: NDArray[np.float32] = np.linspace(low, high, count).astype(np.float32)
    return [float(value) for value in values]


def _root(transform: str, k: int, power: int) -> int:
    """Return the integer root of k, or refuse k."""
    root: int = round(float(k) ** (1 / power))
    if root**power != k:
        nearby = ", ".join(str(r**power) for r in (root - 1, root, root + 1) if r > 0)
        expected = f"k of which the {'square' if power == 2 else 'fourth'} root is whole ({nearby})"
        raise refuse(f"transform {transform}", expected, f"k = {k}", "choose one of these")
    return root
