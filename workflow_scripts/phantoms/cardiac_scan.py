"""How a scanner of some vendor shows a short-axis stack: contrast, coils, noise, artefacts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.phantoms.cardiac_thorax import Signals
from workflow_scripts.phantoms.fields import Field, smooth_noise
from workflow_scripts.phantoms.knobs import Knobs

FIELD_OF_VIEW_MM = 270.0
SHARPNESS = 0.45  # pixels; standard deviation of the point spread
HEIGHT = 420.0  # stored value of signal 1, before the patient's own gain


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor's look; ours, not measured.

    Attributes:
        gamma: tone curve; above 1 darker in the middle.
        wall_signal: of the myocardium.
        fat_signal: of fat.
        noise: standard deviation of the noise, signal 1 = blood.
        coil: strength of the brightness that falls off from the chest wall.
        blur: of the picture, pixels.
        slice_mm: distance of slices.
        view: field of view as a share of `FIELD_OF_VIEW_MM`.
    """

    gamma: float
    wall_signal: float
    fat_signal: float
    noise: float
    coil: float
    blur: float
    slice_mm: float
    view: float


VENDORS = {
    "Siemens": Vendor(1.00, 0.30, 0.92, 0.025, 0.35, 0.00, 10.0, 1.00),
    "Philips": Vendor(1.35, 0.22, 0.70, 0.035, 0.15, 0.45, 8.0, 1.12),
    "GE": Vendor(0.80, 0.36, 1.05, 0.045, 0.70, 0.30, 8.0, 1.18),
    "Canon": Vendor(0.90, 0.42, 0.60, 0.055, 0.50, 0.60, 6.0, 1.05),
}
REFERENCE = VENDORS["Siemens"]


@dataclass(frozen=True, slots=True)
class ScanCase:
    """How one patient is scanned, in both frames alike.

    Attributes:
        look: the vendor's, moved from Siemens' by the domain shift.
        signals: of the tissues.
        spacing_mm: of pixels.
        slice_mm: of slices.
        n_slices: from base to apex.
        gain: stored value of signal 1.
    """

    look: Vendor
    signals: Signals
    spacing_mm: float
    slice_mm: float
    n_slices: int
    gain: float

    @classmethod
    def draw(cls, rng: np.random.Generator, vendor: str, knobs: Knobs, size: int) -> ScanCase:
        """Draw a protocol.

        Raises:
            ValueError: if the vendor is unknown.
        """
        if vendor not in VENDORS:
            raise ValueError(f"no such vendor: {vendor}")
        look = _between(REFERENCE, VENDORS[vendor], knobs.domain_shift)
        spread = [float(value) for value in rng.normal(0, 1, 6)]
        view_mm = FIELD_OF_VIEW_MM * look.view * (1 + 0.04 * spread[0])
        blood = 0.86 * (1 + 0.04 * spread[1])
        signals = Signals(blood, look.wall_signal * (1 + 0.06 * spread[2]), look.fat_signal)
        heart_mm = 92 + 6 * spread[3]  # from the base to the apex
        n_slices = int(np.clip(round(heart_mm / look.slice_mm), 6, 16))
        gain = HEIGHT * float(np.exp(0.35 * spread[4]))
        spacing_mm = round(view_mm / size, 4)  # as headers have it
        return cls(look, signals, spacing_mm, round(look.slice_mm, 2), n_slices, gain)


def _between(one: Vendor, other: Vendor, shift: float) -> Vendor:
    """Return the look `shift` of the way from `one` to `other`; beyond 1 further still."""
    values = {
        name: getattr(one, name) + shift * (getattr(other, name) - getattr(one, name))
        for name in Vendor.__slots__
    }
    lowest = {"gamma": 0.4, "wall_signal": 0.1, "fat_signal": 0.2, "noise": 0.005, "coil": 0.0}
    lowest |= {"blur": 0.0, "slice_mm": 4.0, "view": 0.8}
    return Vendor(**{name: float(max(value, lowest[name])) for name, value in values.items()})


def scan(
    picture: Field,
    protocol: ScanCase,
    knobs: Knobs,
    rng: np.random.Generator,
    coils: np.random.Generator,
) -> NDArray[np.int16]:
    """Return the stored image of a stack of signals.

    Args:
        picture: signals, shape (D, H, W).
        protocol: how the patient is scanned.
        knobs: artefact level.
        rng: the frame's stream (noise, breathing).
        coils: the patient's stream (brightness across the image).
    """
    from scipy.ndimage import gaussian_filter

    look, size = protocol.look, picture.shape[1]
    sigma = np.hypot(SHARPNESS, look.blur) * size / 160  # the scanner's sharpness is in mm
    image = gaussian_filter(np.clip(picture, 0, None) ** np.float32(look.gamma), (0, sigma, sigma))
    image = image * _coil_field(coils, size, look.coil)
    if knobs.artefact_level > 0:
        image = _with_artefacts(image, knobs.artefact_level, rng)
    noise = look.noise * rng.standard_normal((2, *image.shape), dtype=np.float32)
    magnitude = np.hypot(image + noise[0], noise[1])  # Rician, as a magnitude image has it
    stored: NDArray[np.int16] = np.round(magnitude * np.float32(protocol.gain)).astype(np.int16)
    return stored


def _coil_field(rng: np.random.Generator, size: int, strength: float) -> Field:
    """Return how the receiver coils brighten the front of the chest and the surface."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    front = -0.7 * axis[:, None] - 0.25 * axis[None, :]
    smooth = 0.35 * smooth_noise(rng, size, 2)
    field: Field = np.exp(np.float32(strength) * (front + smooth)).astype(np.float32)
    return field


def _with_artefacts(image: Field, level: float, rng: np.random.Generator) -> Field:
    """Add ghosts of breathing, a dark off-resonance band, and a slice out of place."""
    size = image.shape[1]
    shift = int(size * rng.uniform(0.12, 0.25))
    ghosts = np.roll(image, shift, axis=1) + np.roll(image, -shift, axis=1)
    image = image + np.float32(0.045 * level) * ghosts
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    tilt, place = rng.uniform(-0.6, 0.6), rng.uniform(-1.0, 1.0)
    line = axis[None, :] + np.float32(tilt) * axis[:, None] - np.float32(place)
    band = np.exp(-((line / 0.05) ** 2))
    image = image * (1 - np.float32(min(0.45 * level, 0.9)) * band)
    moved = rng.random(len(image)) < 0.12 * level
    for plane in np.flatnonzero(moved):
        image[plane] = np.roll(image[plane], int(rng.integers(-2, 3)), axis=0)
    return image
