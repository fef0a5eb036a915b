"""Short-axis cardiac MR of synthetic patients: a stack from base to apex, in ED and ES.

Distances are in mm from the image centre, x to the right and y down, with the RV on the left as
radiologists display it. The same anatomy makes the picture and the reference, so the truth is
known; `contour_ambiguity` lets a virtual reader's contours stray from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.phantoms.cardiac_scan import ScanCase, scan
from workflow_scripts.phantoms.cardiac_thorax import Signals, draw_thorax, thorax
from workflow_scripts.phantoms.fields import Field, inside
from workflow_scripts.phantoms.knobs import Knobs, Streams

BORDER_MM = 1.1  # softness of a sharp organ border
APEX_BLUR = 1.6  # the wall is cut at an angle near the apex: borders this much softer
RV_END = 0.80  # share of the way to the apex at which the RV has tapered off
STRAY_MM = 1.6  # spread of a reader's contour at ambiguity 1


@dataclass(frozen=True, slots=True)
class CardiacCase:
    """What is true of one volume.

    Attributes:
        frame: `ED` or `ES`.
        group: `NOR`, `DCM`, `HCM`, `MINF` or `RV`, as ACDC names them.
        vendor: a key of `cardiac_scan.VENDORS`.
    """

    frame: str
    group: str = "NOR"
    vendor: str = "Siemens"


@dataclass(frozen=True, slots=True)
class Heart:
    """One patient's heart at one time; lengths in mm, angles in radians clockwise on screen.

    Attributes:
        radius: of the LV cavity at its widest.
        wall: thickness of the LV wall.
        septum: how much thicker the septal wall is, as a share.
        rv_size: of the RV, 1 for an ordinary one.
        centre: of the LV in the middle slice.
        drift: of the centre from base to apex.
        rv_angle: direction from LV to RV.
        scar_angle, scar: where the wall is thin and does not move, and how much.
        squash: how far the cavity is from round.
        base: share of the way to the apex at which the first slice cuts.
    """

    radius: float
    wall: float
    septum: float
    rv_size: float
    centre: tuple[float, float]
    drift: tuple[float, float]
    rv_angle: float
    scar_angle: float
    scar: float
    squash: float
    base: float


# group: cavity radius, wall, septal thickening, RV size, radius left in ES, scar (ours; shaped
# after the definitions of ACDC's groups: dilated, hypertrophic, infarcted, normal, abnormal RV)
GROUPS: dict[str, tuple[float, float, float, float, float, float]] = {
    "NOR": (25.0, 8.0, 0.10, 1.00, 0.66, 0.0),
    "DCM": (33.0, 7.0, 0.00, 1.05, 0.88, 0.0),
    "HCM": (22.0, 12.5, 0.55, 0.95, 0.52, 0.0),
    "MINF": (28.0, 7.8, 0.05, 1.00, 0.82, 0.55),
    "RV": (24.0, 8.0, 0.10, 1.40, 0.72, 0.0),
}


def draw_heart(rng: np.random.Generator, case: CardiacCase, disease: float) -> Heart:
    """Draw a patient's heart, then let it contract if the frame is ES.

    Args:
        rng: the patient's stream; both frames get equal numbers.
        case: group and frame.
        disease: 0 makes every group look normal, 1 is its full signs.
    """
    normal, ill = np.array(GROUPS["NOR"]), np.array(GROUPS[case.group])
    radius, wall, septum, rv_size, left, scar = normal + min(disease, 1.5) * (ill - normal)
    spread = rng.normal(0, 1, 10)
    radius *= 1 + 0.07 * spread[0]
    wall *= 1 + 0.08 * spread[1]
    left = float(np.clip(left + 0.03 * spread[2], 0.4, 0.95))
    base = 0.02 + 0.04 * rng.random()
    scar_angle = rng.uniform(-1.2, 1.8)
    if case.frame == "ES":
        # the wall keeps its volume: inner and outer radius change by the same area, and a share
        # of the contraction shortens the heart, which lets the wall thicken further
        outer = np.sqrt((radius + wall) ** 2 - 0.80 * radius**2 * (1 - left**2))
        radius, rv_size, base = radius * left, rv_size * (0.72 + 0.2 * left), base + 0.05
        wall = outer - radius
    return Heart(
        radius=float(radius),
        wall=float(wall),
        septum=float(septum),
        rv_size=float(rv_size * (1 + 0.06 * spread[3])),
        centre=(float(16 + 7 * spread[4]), float(2 + 6 * spread[5])),
        drift=(float(11 + 3 * spread[6]), float(8 + 3 * spread[7])),
        rv_angle=float(np.pi + 0.35 + 0.16 * spread[8]),
        scar_angle=float(scar_angle),
        scar=float(scar),
        squash=float(0.03 + 0.02 * abs(spread[9])),
        base=float(base),
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """Signed distances in mm, positive inside, each of shape (D, H, W).

    Attributes:
        cavity: to the inner border of the LV wall.
        epicardium: to its outer border.
        rv: to the border of the RV cavity.
        depth: share of the way from base to apex, shape (D, 1, 1).
        angle: around the LV, 0 to the right.
    """

    cavity: Field
    epicardium: Field
    rv: Field
    depth: Field
    angle: Field


def shape_of(heart: Heart, x: Field, y: Field, n_slices: int, wobble: Field | None = None) -> Shape:
    """Return where the heart's borders are.

    Args:
        heart: the anatomy.
        x, y: mm, shape (1, W) and (H, 1).
        n_slices: from base to apex.
        wobble: offset of each contour in mm, shape (3, D, 24) over angles, for a reader's contour.
    """
    steps = (np.arange(n_slices, dtype=np.float32) + 0.5) / n_slices
    depth = (heart.base + (1 - heart.base) * steps)[:, None, None].astype(np.float32)
    dx = x - np.float32(heart.centre[0]) - np.float32(heart.drift[0]) * (depth - 0.5)
    dy = y - np.float32(heart.centre[1]) - np.float32(heart.drift[1]) * (depth - 0.5)
    radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    taper = np.sqrt(np.clip(1 - (0.96 * depth) ** 2.6, 0.02, 1)) * (0.94 + 0.06 * np.sin(4 * depth))
    scar = heart.scar * np.exp(-((_turn(angle - heart.scar_angle) / 0.75) ** 2))
    inner = heart.radius * taper * (1 + heart.squash * np.cos(2 * (angle - heart.rv_angle)))
    septal = np.exp(-((_turn(angle - heart.rv_angle) / 0.9) ** 2))
    wall = heart.wall * (0.72 + 0.28 * taper) * (1 + heart.septum * septal) * (1 - 0.55 * scar)
    outer = inner + wall + 0.12 * heart.radius * scar * taper
    inner = inner + 0.30 * heart.wall * scar * taper
    reach = heart.radius * taper + heart.wall * (1 + heart.septum)
    right = _rv(heart, dx, dy, reach, depth)
    if wobble is not None:
        stray = [_around(one, angle) for one in wobble]
        inner, outer, right = inner + stray[0], outer + stray[1], right + stray[2]
    return Shape(inner - radius, outer - radius, right, depth, angle)


def _turn(angle: Field) -> Field:
    """Return an angle's distance from 0, between -pi and pi."""
    return (angle + np.float32(np.pi)) % np.float32(2 * np.pi) - np.float32(np.pi)


def _around(knots: Field, angle: Field) -> Field:
    """Interpolate values given at equal angles, shape (D, K), at `angle`, shape (D, H, W)."""
    n = knots.shape[1]
    at = (angle + np.float32(np.pi)) * np.float32(n / (2 * np.pi))
    lower = np.floor(at).astype(int) % n
    weight = (1 - np.cos(np.float32(np.pi) * (at - np.floor(at)))) / 2
    planes = np.arange(len(knots))[:, None, None]
    after: Field = knots[planes, (lower + 1) % n]
    between: Field = knots[planes, lower] * (1 - weight) + after * weight
    return between


def _rv(heart: Heart, dx: Field, dy: Field, reach: Field, depth: Field) -> Field:
    """Return the distance to the RV: an ellipse beside the LV, without what the LV covers."""
    cos, sin = np.float32(np.cos(heart.rv_angle)), np.float32(np.sin(heart.rv_angle))
    along, across = cos * dx + sin * dy, cos * dy - sin * dx
    shrink = np.sqrt(np.clip(1 - (depth / RV_END) ** 2.2, 0, 1))
    long = reach * 1.20 * (0.55 + 0.45 * heart.rv_size) * shrink + 1e-3
    wide = reach * 1.06 * heart.rv_size * shrink + 1e-3
    # a crescent: its tips bend around the LV, and it bulges towards the diaphragm
    bent = along - 0.62 * reach + 0.16 * across * across / reach - 0.10 * across
    distance = (1 - np.hypot(bent / wide, across / long)) * np.minimum(wide, long)
    return np.where(shrink > 0.15, distance, np.float32(-99))


def render_cardiac(
    streams: Streams, case: CardiacCase, knobs: Knobs, size: int = 160
) -> tuple[NDArray[np.int16], NDArray[np.uint8], tuple[float, float, float]]:
    """Draw one volume with its reference.

    Args:
        streams: the patient's random streams: `streams("anatomy")` and the scanner's are the
            same in both frames, `streams("image", frame)` is the frame's own.
        case: frame, disease group and vendor.
        knobs: strengths; `domain_shift` is how far the vendor's look is from Siemens'.
        size: rows and columns.

    Returns:
        Image (D, H, W), reference (0 background, 1 LV, 2 MYO, 3 RV; D, H, W), and spacing in mm.

    Raises:
        ValueError: if frame, group or vendor is unknown.
    """
    if case.frame not in ("ED", "ES") or case.group not in GROUPS:
        raise ValueError(f"no such frame or group: {case.frame} {case.group}")
    protocol = ScanCase.draw(streams("protocol"), case.vendor, knobs, size)
    heart = draw_heart(streams("anatomy"), case, knobs.disease_signal)
    axis = (np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)) * protocol.spacing_mm
    x, y = axis[None, :], axis[:, None]
    shape = shape_of(heart, x, y, protocol.n_slices)
    soft = BORDER_MM * (1 + 0.8 * knobs.contour_ambiguity) * (1 + APEX_BLUR * shape.depth**4)
    body = draw_thorax(streams("thorax"), heart.centre, heart.radius + heart.wall)
    picture = thorax(body, protocol.signals, x, y, protocol.n_slices)
    picture = _with_heart(picture, shape, soft, protocol.signals, streams("muscles"))
    image = scan(picture, protocol, knobs, streams("image", case.frame), streams("coils"))
    wobble = None
    if knobs.contour_ambiguity > 0:
        noise = streams("reader", case.frame).normal(0, 1, (3, protocol.n_slices, 8))
        wobble = (STRAY_MM * knobs.contour_ambiguity * noise).astype(np.float32)
    drawn = shape_of(heart, x, y, protocol.n_slices, wobble)
    spacing_mm = (protocol.slice_mm, protocol.spacing_mm, protocol.spacing_mm)
    return image, reference(drawn), spacing_mm


def reference(shape: Shape) -> NDArray[np.uint8]:
    """Return the class of each voxel: 1 LV, 2 MYO, 3 RV."""
    mask = np.zeros(np.broadcast_shapes(shape.cavity.shape, shape.rv.shape), dtype=np.uint8)
    mask[shape.rv > 0] = 3
    mask[shape.epicardium > 0] = 2
    mask[(shape.cavity > 0) & (shape.epicardium > 0)] = 1
    return mask


def _with_heart(
    picture: Field, shape: Shape, soft: Field, signals: Signals, rng: np.random.Generator
) -> Field:
    """Lay the heart over the chest: fat, RV with its thin wall, LV wall, cavity, muscles in it."""

    def cover(below: Field, distance: Field, signal: float | Field, softness: Field) -> Field:
        share = inside(distance / softness, 1.0)
        return below + share * (signal - below)

    fat_mm = 2.0 + 2.5 * np.clip(np.sin(shape.angle * 2 + 0.6), 0, 1)
    outer = np.maximum(shape.epicardium, shape.rv)
    picture = cover(picture, outer + 3 + fat_mm, signals.fat * 0.8, 2.2 * soft)
    picture = cover(picture, outer + 3, signals.muscle * 0.9, soft)
    bands = 0.12 * np.sin(5 * shape.angle + 6 * shape.depth) * np.exp(-((shape.rv / 5) ** 2))
    picture = cover(picture, shape.rv, signals.blood * (0.96 - bands), 1.2 * soft)
    picture = cover(picture, shape.epicardium, signals.myocardium, soft)
    picture = cover(picture, shape.cavity, signals.blood, soft)
    for angle in (0.45 + 0.2 * rng.normal(), 2.25 + 0.2 * rng.normal()):  # papillary muscles
        size_mm = 3.4 + 0.7 * rng.normal()
        there = np.exp(-((_turn(shape.angle - np.float32(angle)) / 0.30) ** 2))
        near = np.exp(-(((shape.cavity - size_mm * 1.1) / size_mm) ** 2))
        middle = np.exp(-(((shape.depth - 0.52) / 0.24) ** 2))
        share = there * near * middle * (shape.cavity > 0)
        picture = picture + share * (signals.myocardium * 1.1 - picture)
    return picture
