"""The four artefacts of ACDC-C: bias field, ghosting, motion and spike, as torchio 0.18 makes them.

Each kernel is a function of a volume, shape (D, H, W), and its drawn parameters; each `draw_*`
draws them as the released script does (motion: degrees 30, translation 10; else torchio's
defaults). Ours in place of torchio: its results differ between versions (the published files'
version is unknown), and it draws from a global generator. Source: spec section 11, golden
`corruptions`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Parameters = dict[str, Any]

BIAS_ORDER = 3
BIAS_LIMIT = 0.5  # coefficients U(-0.5, 0.5)
GHOSTS = (4, 10)  # torchio's default, both included
GHOST_INTENSITY = (0.5, 1.0)
SPIKE_INTENSITY = (1.0, 3.0)  # torchio from 0.17.26; up to 0.17.0 it was (0.1, 1)
MOTION_DEGREES = 30.0
MOTION_SHIFT = 10.0  # mm, which the released script makes voxels
MOTION_MOVES = 2
MOTION_JITTER = 0.1  # of the time between movements


def bias_field(volume: Floats, coefficients: Floats) -> Floats:
    """Multiply by exp of a polynomial of order 3 in coordinates that end at 1.

    Args:
        volume: shape (D, H, W).
        coefficients: 20 numbers, in the order of the powers of D, H, W.
    """
    axes = [np.arange(-n / 2, n / 2) + 0.5 for n in volume.shape]
    axes = [axis / axis.max() if axis.max() > 0 else axis for axis in axes]
    d, h, w = np.meshgrid(*axes, indexing="ij", sparse=True)
    powers = (
        (a, b, c)
        for a in range(BIAS_ORDER + 1)
        for b in range(BIAS_ORDER + 1 - a)
        for c in range(BIAS_ORDER + 1 - a - b)
    )
    terms = zip(coefficients, powers, strict=True)
    exponent = sum((k * d**a * h**b * w**c for k, (a, b, c) in terms), np.zeros(volume.shape))
    return volume * np.exp(exponent)


def spike(volume: Floats, position: Floats, intensity: float) -> Floats:
    """Add to one coefficient of the spectrum, `intensity` times its highest."""
    spectrum = _spectrum(volume)
    index = tuple(np.floor(position * volume.shape).astype(int))
    spectrum[index] += spectrum.max() * intensity
    return _image(spectrum)


def ghosting(volume: Floats, n_ghosts: int, axis: int, intensity: float) -> Floats:
    """Weaken every `n_ghosts`-th plane of the spectrum along `axis`, the central one spared."""
    if n_ghosts == 0 or intensity == 0:
        return volume
    spectrum = np.moveaxis(_spectrum(volume), axis, 0)
    centre = len(spectrum) // 2
    spared = spectrum[centre].copy()
    spectrum[::n_ghosts] *= 1 - intensity
    spectrum[centre] = spared
    return _image(np.moveaxis(spectrum, 0, axis))


def motion(volume: Floats, degrees: Floats, shifts: Floats, times: Floats) -> Floats:
    """Put the spectrum together from those of the volume and its moved copies.

    Args:
        volume: shape (D, H, W).
        degrees: rotation of each movement about the axes, shape (M, 3).
        shifts: of each movement, voxels, shape (M, 3).
        times: when the movements happen, ascending in (0, 1), shape (M,).
    """
    moved = [volume, *(move(volume, *one) for one in zip(degrees, shifts, strict=True))]
    spectra = [_spectrum(one) for one in moved]
    later = np.flatnonzero(times > 0.5)
    middle = int(later[0]) if len(later) else len(spectra) - 1
    spectra[0], spectra[middle] = spectra[middle], spectra[0]  # the centre makes the picture
    last = volume.shape[-1]
    ends = [0, *(int(np.floor(last * time)) for time in times), last]
    parts = [
        spectrum[..., first:stop]
        for spectrum, (first, stop) in zip(spectra, pairwise(ends), strict=True)
    ]
    return _image(np.concatenate(parts, axis=-1))


def move(volume: Floats, degrees: Floats, shift: Floats) -> Floats:
    """Turn and shift a volume about its first voxel, in torchio's coordinates (LPS)."""
    from scipy.ndimage import map_coordinates

    x, y, z = np.radians(degrees)
    turn_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    flip = np.diag([-1.0, -1.0, 1.0])
    index = np.indices(volume.shape, dtype=float).reshape(3, -1)
    source = flip @ (turn_z @ turn_x @ turn_y @ (flip @ index) + shift[:, None])
    ends = np.array(volume.shape)[:, None] - 1
    is_inside = ((source >= -0.5) & (source <= ends + 0.5)).all(axis=0)
    values = map_coordinates(volume, np.clip(source, 0, ends), order=1)
    moved: Floats = np.where(is_inside, values, volume.min()).reshape(volume.shape)
    return moved


def _spectrum(volume: Floats) -> NDArray[np.complex128]:
    return np.fft.fftshift(np.fft.fftn(volume))


def _image(spectrum: NDArray[np.complex128]) -> Floats:
    return np.fft.ifftn(np.fft.ifftshift(spectrum)).real


def draw_bias(rng: np.random.Generator) -> Parameters:
    """Draw 20 coefficients."""
    return {"coefficients": rng.uniform(-BIAS_LIMIT, BIAS_LIMIT, 20)}


def draw_spike(rng: np.random.Generator, intensity: tuple[float, float]) -> Parameters:
    """Draw place and height of one spike."""
    return {"position": rng.uniform(0, 1, 3), "intensity": float(rng.uniform(*intensity))}


def draw_ghosting(rng: np.random.Generator) -> Parameters:
    """Draw number, axis and strength of ghosts."""
    return {
        "n_ghosts": int(rng.integers(GHOSTS[0], GHOSTS[1] + 1)),
        "axis": int(rng.integers(3)),
        "intensity": float(rng.uniform(*GHOST_INTENSITY)),
    }


def draw_motion(rng: np.random.Generator) -> Parameters:
    """Draw two movements and their times."""
    even = np.linspace(0, 1, MOTION_MOVES + 2)[1:-1]
    return {
        "degrees": rng.uniform(-MOTION_DEGREES, MOTION_DEGREES, (MOTION_MOVES, 3)),
        "shifts": rng.uniform(-MOTION_SHIFT, MOTION_SHIFT, (MOTION_MOVES, 3)),
        "times": even + rng.uniform(-MOTION_JITTER, MOTION_JITTER, MOTION_MOVES),
    }


KERNELS: dict[str, Callable[..., Floats]] = {
    "RandomBias": bias_field,
    "RandomGhosting": ghosting,
    "RandomMotion": motion,
    "RandomSpike": spike,
}


def draw(
    corruption: str,
    rng: np.random.Generator,
    spike_intensity: tuple[float, float] = SPIKE_INTENSITY,
) -> Parameters:
    """Draw the parameters of a corruption.

    >>> sorted(draw("RandomGhosting", np.random.default_rng(0)))
    ['axis', 'intensity', 'n_ghosts']
    """
    if corruption == "RandomSpike":
        return draw_spike(rng, spike_intensity)
    simple = {"RandomBias": draw_bias, "RandomGhosting": draw_ghosting, "RandomMotion": draw_motion}
    return simple[corruption](rng)


STRENGTHS = {  # what makes an artefact strong; at 0 of it the volume stays as it is
    "RandomBias": ("coefficients",),
    "RandomGhosting": ("intensity",),
    "RandomMotion": ("degrees", "shifts"),
    "RandomSpike": ("intensity",),
}


def at_severity(corruption: str, parameters: Parameters, severity: float) -> Parameters:
    """Return drawn parameters with their strength multiplied by `severity`; 1 as drawn, 0 none.

    Ours: the paper's corruptions have no levels.

    >>> at_severity("RandomGhosting", {"n_ghosts": 4, "axis": 0, "intensity": 0.8}, 0.5)
    {'n_ghosts': 4, 'axis': 0, 'intensity': 0.4}
    """
    strong = STRENGTHS[corruption]
    return {
        name: value * severity if name in strong else value for name, value in parameters.items()
    }


def rescale_slices(volume: Floats) -> Floats:
    """Map each slice's lowest and highest value to 0 and 1; a constant slice becomes 0.

    Source: golden `rescale_intensity`.
    """
    low = volume.min(axis=(1, 2), keepdims=True)
    high = volume.max(axis=(1, 2), keepdims=True)
    scaled: Floats = (volume - low) / (high - low + 1e-20)
    return scaled
