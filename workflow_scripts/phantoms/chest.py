"""Chest X-rays of synthetic patients: anatomy, findings, film.

The picture is a map of attenuation as a digital radiograph shows it: bright where much tissue
lies in the beam, dark where there is air. Organs add to or take from it, findings work on the
lungs, and the film adds tone curve, noise, marker and devices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.phantoms.chest_anatomy import (
    SIDES,
    Anatomy,
    as_portable,
    cage_edge,
    diaphragm,
    draw_anatomy,
    lung_mask,
)
from workflow_scripts.phantoms.chest_film import expose
from workflow_scripts.phantoms.chest_findings import OPACITIES, SHAPE_CHANGES, Scene
from workflow_scripts.phantoms.fields import (
    Field,
    Grid,
    blob,
    blur,
    clamp,
    curve,
    draw_lines,
    ellipse_distance,
    fractal_noise,
    inside,
    square_grid,
)
from workflow_scripts.phantoms.knobs import Knobs, Streams

EDGE = 0.010  # softness of a sharp organ border, half image sides


@dataclass(frozen=True, slots=True)
class ChestCase:
    """What is true of one chest X-ray.

    Attributes:
        image_id: names the image's own random stream.
        findings: names of `FINDINGS`; empty for a healthy chest.
        sex: `F`, `M` or None.
        age_years: NaN where unknown.
        view: `PA` or `AP`.
    """

    image_id: str
    findings: Sequence[str] = ()
    sex: str | None = None
    age_years: float = float("nan")
    view: str = "PA"


FINDINGS = tuple(sorted({*OPACITIES, *SHAPE_CHANGES}))


def render_chest(
    streams: Streams, case: ChestCase, knobs: Knobs, size: int = 256
) -> NDArray[np.uint8]:
    """Draw one chest X-ray.

    Args:
        streams: the patient's random streams: `streams("anatomy")` and `streams("finding", name)`
            are the same in all images of a patient, `streams("image", image_id)` is the image's.
        case: what the image shows.
        knobs: strengths.
        size: pixels along a side.

    Returns:
        Gray levels, shape (size, size), bright where dense.

    Raises:
        ValueError: if a finding or the view is unknown.
    """
    unknown = {*case.findings, *filter(None, [knobs.confounder_finding])} - set(FINDINGS)
    if unknown or case.view not in ("PA", "AP"):
        raise ValueError(f"no such finding or view: {sorted(unknown)} {case.view}")
    anatomy = draw_anatomy(streams("anatomy"), case.sex, case.age_years, knobs)
    if case.view == "AP":
        anatomy = as_portable(anatomy)
    for finding in case.findings:
        if finding in SHAPE_CHANGES:
            change = SHAPE_CHANGES[finding]
            anatomy = change(anatomy, streams("finding", finding), knobs.disease_signal)
    scene = _scene(streams, anatomy, _draw_pose(streams("image", case.image_id)), size, knobs)
    for finding in case.findings:
        if finding in OPACITIES:
            OPACITIES[finding](scene, streams("finding", finding), knobs.disease_signal)
    picture = _compose(scene, streams("tissue"), case.view)
    marked = knobs.confounder_finding
    goes_with = marked in case.findings if marked else bool(case.findings)
    return expose(picture, streams("image", case.image_id, "film"), case.view, goes_with, knobs)


def side_view(frontal: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a stand-in for the lateral view: both lungs over each other, a narrower chest.

    Enough to be told from a frontal view; nothing is learned from it, filters leave it out.
    """
    both = (frontal.astype(np.uint16) + frontal[:, ::-1]) // 2
    size = frontal.shape[1]
    width = round(0.7 * size)
    narrow = both[:, np.linspace(0, size - 1, width).astype(int)]
    picture = np.zeros_like(frontal)
    start = (size - width) // 2
    picture[:, start : start + width] = narrow
    return picture


class Pose(NamedTuple):
    """How the patient stands this time: shifted, turned, nearer or further away."""

    shift: tuple[float, float]
    angle: float
    zoom: float

    def to_body(self, grid: Grid) -> Grid:
        """Return the place in the body that each point of the image shows."""
        cos = np.float32(self.zoom * np.cos(self.angle))
        sin = np.float32(self.zoom * np.sin(self.angle))
        x, y = grid.x - np.float32(self.shift[0]), grid.y - np.float32(self.shift[1])
        return Grid(cos * x - sin * y, sin * x + cos * y)

    def to_image(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where the image shows places in the body; x and y, shape (N, 2)."""
        cos, sin = math.cos(self.angle) / self.zoom, math.sin(self.angle) / self.zoom
        turn = np.array([[cos, -sin], [sin, cos]])
        posed: NDArray[np.float64] = places @ turn + np.array(self.shift)
        return posed


def _draw_pose(rng: np.random.Generator) -> Pose:
    shift_x, shift_y = rng.normal(0, 0.018, 2)
    return Pose((shift_x, shift_y), rng.normal(0, 0.014), 1 + rng.normal(0, 0.018))


def _scene(streams: Streams, anatomy: Anatomy, pose: Pose, size: int, knobs: Knobs) -> Scene:
    grid = pose.to_body(square_grid(size))
    edge = cage_edge(grid.y, anatomy)
    softness = EDGE * (1 + 4 * knobs.contour_ambiguity)
    return Scene(
        grid=grid,
        anatomy=anatomy,
        softness=softness,
        edge=edge,
        lungs={side: lung_mask(grid, edge, anatomy, side, softness) for side in SIDES},
        heart=_silhouette(grid, anatomy, softness),
        vessels=_vessels(streams("vessels"), anatomy, pose, size),
        opacity=np.zeros_like(grid.x),
        air=np.zeros_like(grid.x),
        overlay=np.zeros_like(grid.x),
    )


def _compose(scene: Scene, rng: np.random.Generator, view: str) -> Field:
    """Add up attenuation; 0 is air outside the body and 1 the densest organ."""
    grid, anatomy = scene.grid, scene.anatomy
    body = _body(grid, anatomy)
    lung = np.maximum(scene.lungs[-1], scene.lungs[1])
    texture = fractal_noise(rng, grid.size, 14, 3)
    depth = _lung_depth(scene)
    clear = lung * (1 - scene.heart)
    organs = np.maximum(_abdomen(scene, rng), 0.20 * scene.heart)
    tissue = (0.62 + anatomy.fat) + organs
    air = clear * depth * anatomy.lung_air
    air *= 1 + 0.04 * texture
    # Behind the heart there is some lung: its vessels and opacities show a little.
    seen = clear + 0.35 * lung * scene.heart
    vessels = scene.vessels + 0.13 * _hila(grid)
    tissue -= air - vessels * seen
    tissue += clamp(scene.opacity, 0, 0.42) * (seen - 0.2 * lung * scene.heart) - scene.air * clear
    tissue += _breasts(grid, anatomy) + _bones(scene, lung, view) - _airways(grid)
    tissue += 0.012 * fractal_noise(rng, grid.size, 5, 2) + scene.overlay
    return clamp(tissue, 0.02, 1.2) * body


def _body(grid: Grid, anatomy: Anatomy) -> Field:
    """Return the outline of neck, shoulders and trunk, and its thinning towards the sides."""
    u = np.abs(grid.x)
    slope = clamp(u - 0.26, 0, 1)
    shoulder = -1.04 + 0.26 * slope + 0.30 * slope * slope
    top = inside(grid.y - shoulder, 0.03)
    edge = (anatomy.half_width + 0.19 + 1.4 * anatomy.fat) + 0.30 * clamp(-grid.y - 0.05, 0, 1)
    wall = clamp((edge - u) / 0.22, 0, 1)
    return top * np.sqrt(wall)


def _lung_depth(scene: Scene) -> Field:
    """Return how much air lies in the beam: less at the wall and at the top."""
    lateral = clamp((scene.edge - np.abs(scene.grid.x)) / 0.30, 0, 1)
    return 0.74 + 0.26 * np.sqrt(lateral)


def _silhouette(grid: Grid, anatomy: Anatomy, softness: float) -> Field:
    """Return heart, great vessels and spine in one outline, from the neck to the diaphragm."""
    width = anatomy.cardiothoracic_ratio * 2 * anatomy.half_width
    left = width * anatomy.heart_share_left
    right = width - left
    bottom = max(anatomy.dome) + 0.08
    knob = 0.085 + anatomy.aortic_knob
    left_border = (
        (-1.00, 0.17), (-0.62, 0.115), (-0.50, 0.115), (-0.42, knob), (-0.36, knob),
        (-0.27, 0.125), (-0.16, 0.145), (-0.06, 0.10 + 0.20 * left), (bottom - 0.38, 0.62 * left),
        (bottom - 0.25, 0.87 * left), (bottom - 0.12, left), (bottom, 0.98 * left),
    )  # fmt: skip
    right_border = (
        (-1.00, 0.16), (-0.62, 0.125), (-0.40, 0.115), (-0.20, 0.125), (-0.06, 0.135),
        (bottom - 0.36, 0.10 + 0.40 * right), (bottom - 0.24, 0.96 * right),
        (bottom - 0.16, right), (bottom, 0.80 * right),
    )  # fmt: skip
    soft = 1.6 * softness + 0.10 * clamp(-0.45 - grid.y, 0, 1)
    on_left = inside((curve(grid.y, left_border) - grid.x) / soft, 1.0)
    neck = 1 - 0.45 * clamp((-0.5 - grid.y) / 0.3, 0, 1)
    return on_left * inside((curve(grid.y, right_border) + grid.x) / soft, 1.0) * neck


def _hila(grid: Grid) -> Field:
    """Return the knots of vessels where they enter the lungs."""
    hila = np.zeros_like(grid.x)
    for side, height in ((-1, -0.07), (1, -0.12)):
        hila = np.maximum(hila, blob(grid, (side * 0.165, height), (0.050, 0.090)))
    return hila


def _abdomen(scene: Scene, rng: np.random.Generator) -> Field:
    grid, anatomy = scene.grid, scene.anatomy
    u = np.abs(grid.x)
    right, left = (inside(grid.y - diaphragm(u, anatomy, side), 0.010) for side in SIDES)
    below = np.where(grid.x < 0, right, left)
    # Outside the rib cage the wall grows thicker downwards without a border.
    in_cage = inside(scene.edge - u, 0.02)
    flank = clamp((grid.y + 0.15) / 1.1, 0, 1)
    # Liver on one side, stomach with its air bubble on the other.
    bubble_y = anatomy.dome[1] + 0.115 + rng.normal(0, 0.02)
    bubble = ellipse_distance(grid, (0.31 + rng.normal(0, 0.04), bubble_y), (0.13, 0.055), -0.15)
    value = 0.22 + 0.02 * (grid.x < 0) + 0.05 * clamp(grid.y - 0.3, 0, 1)
    abdomen = value * (below * in_cage + 0.8 * flank * (1 - in_cage))
    return abdomen - rng.uniform(0.04, 0.13) * inside(bubble, 0.03)


def _breasts(grid: Grid, anatomy: Anatomy) -> Field:
    field = np.zeros_like(grid.x)
    if anatomy.breast <= 0:
        return field
    for side in SIDES:
        # A half sphere: thick in the middle, with a crisp lower border.
        centre, radius = (side * 0.42, 0.20), (0.31, 0.34)
        depth = clamp(ellipse_distance(grid, centre, radius) / 0.33, 0, 1)
        fade = clamp((grid.y - np.float32(centre[1] - 0.30)) / 0.5, 0, 1)
        field += anatomy.breast * np.sqrt(depth) * fade
    return field


def _bones(scene: Scene, lung: Field, view: str) -> Field:
    grid, anatomy, heart = scene.grid, scene.anatomy, scene.heart
    u = np.abs(grid.x)
    edge = np.maximum(scene.edge, 0.05)
    across = u / edge  # 0 at the midline, 1 at the rib cage's wall
    ribs = _posterior_ribs(grid, u, across, anatomy) + _anterior_ribs(grid, across, anatomy)
    in_lung = 0.25 + 0.75 * lung * (1 - 0.75 * heart)
    bones = anatomy.rib_density * ribs * in_lung
    wall = np.exp(-(((across - 1.03) / 0.028) ** 2))
    bones += 0.6 * anatomy.rib_density * wall * inside(anatomy.dome[1] + 0.35 - grid.y, 0.2)
    bones += _clavicles(grid, u, anatomy) + _spine(grid, anatomy)
    return bones + _scapulae(grid, u, view)


def _posterior_ribs(grid: Grid, u: Field, across: Field, anatomy: Anatomy) -> Field:
    """Return the back parts of the ribs: from the spine outwards, then down along the wall."""
    reach = clamp(across, 0, 1.1)
    along = anatomy.rib_slope * reach * reach * np.sqrt(reach) - 0.07 * np.sin(
        np.float32(np.pi) * np.minimum(reach, 1)
    )
    from_first = (grid.y - along - np.float32(anatomy.apex + 0.06)) / np.float32(
        anatomy.rib_spacing
    )
    distance = (from_first - np.floor(from_first) - 0.5) * np.float32(anatomy.rib_spacing)
    profile = _rib_profile(distance, 0.030)
    counted = (from_first > 0) & (from_first < 10)
    return profile * counted * inside(u - 0.09, 0.02) * _cage(across)


def _anterior_ribs(grid: Grid, across: Field, anatomy: Anatomy) -> Field:
    """Return the front parts: down towards the midline, ending where cartilage begins."""
    spacing = np.float32(anatomy.rib_spacing * 1.08)
    along = -0.42 * clamp(across, 0, 1.1) ** 2
    from_first = (grid.y - along - np.float32(anatomy.apex + 0.42)) / spacing
    distance = (from_first - np.floor(from_first) - 0.5) * spacing
    counted = (from_first > 0) & (from_first < 7)
    bone = clamp((across - 0.42) / 0.25, 0, 1)
    return 0.42 * _rib_profile(distance, 0.034) * counted * bone * _cage(across)


def _rib_profile(distance: Field, half: float) -> Field:
    """Return a rib's cross section: marrow, and the brighter rims of its cortex."""
    band = inside(np.float32(half) - np.abs(distance), 0.008)
    rim = np.minimum(np.abs(distance) / half, 1)
    return band * (0.62 + 0.45 * rim * rim)


def _cage(across: Field) -> Field:
    return inside(1.045 - across, 0.02)


def _clavicles(grid: Grid, u: Field, anatomy: Anatomy) -> Field:
    start, end = 0.075, 0.80
    along = clamp((u - np.float32(start)) / np.float32(end - start), 0, 1)
    wave = 0.028 * np.sin(np.float32(2 * np.pi) * along)
    line = -0.585 - anatomy.clavicle_rise * along + wave
    half = 0.030 + 0.012 * (1 - along) ** 2
    band = inside(half - np.abs(grid.y - line), 0.010)
    rim = np.minimum(np.abs(grid.y - line) / half, 1)
    ends = inside(u - np.float32(start), 0.02) * inside(np.float32(end) - u, 0.03)
    bone: Field = 0.135 * band * ends * (0.7 + 0.35 * rim * rim)
    return bone


def _spine(grid: Grid, anatomy: Anatomy) -> Field:
    bend = anatomy.spine_curve * np.sin(2.5 * grid.y)
    offset = np.abs(grid.x - bend)
    body = inside(0.075 - offset, 0.015)
    step = np.mod(grid.y * 7.2, 1)
    disc = np.exp(-(((step - 0.5) / 0.10) ** 2))
    process = np.exp(-((offset / 0.014) ** 2) - ((step - 0.1) / 0.16) ** 2)
    pedicles = np.exp(-(((offset - 0.048) / 0.012) ** 2) - ((step - 0.05) / 0.14) ** 2)
    fade = 1 - 0.35 * inside(grid.y - -0.25, 0.3)
    bone: Field = fade * body * (0.055 - 0.045 * disc + 0.03 * process + 0.025 * pedicles)
    return bone


def _scapulae(grid: Grid, u: Field, view: str) -> Field:
    """Return shoulder blades and heads of the upper arms; an AP view does not turn them away."""
    inner = np.float32(0.60 if view == "AP" else 0.72)
    border = inner + 0.13 * clamp(grid.y + 0.60, 0, 1)
    blade = inside(u - border, 0.012) * inside(0.12 - grid.y, 0.05)
    blade = blade * inside(grid.y + 0.74, 0.03) * inside(1.0 - u, 0.02)
    rim = np.exp(-(((u - border - 0.015) / 0.012) ** 2))
    mirrored = Grid(u, grid.y)
    head = inside(ellipse_distance(mirrored, (0.955, -0.60), (0.115, 0.125)), 0.02)
    return blade * (0.035 + 0.035 * rim) + 0.10 * head


def _airways(grid: Grid) -> Field:
    """Return the air of windpipe and main bronchi."""
    pipe = inside(0.036 - np.abs(grid.x + 0.008), 0.014)
    field = 0.11 * pipe * inside(-0.26 - grid.y, 0.03)
    for side, slope in ((-1, 1.25), (1, 0.85)):
        fall = (grid.y + 0.27) - np.float32(slope) * (side * grid.x)
        reach = inside(side * grid.x, 0.01) * inside(0.14 - side * grid.x, 0.03)
        field += 0.05 * inside(0.035 - np.abs(fall), 0.02) * reach
    return field


def _vessels(rng: np.random.Generator, anatomy: Anatomy, pose: Pose, size: int) -> Field:
    """Return the lung vessels: trees that grow from the hila and thin towards the wall."""
    first = np.array([-1.25, -0.8, -0.35, 0.1, 0.5, 0.85, 1.15, 1.4])  # radians below level
    side = np.repeat([-1.0, 1.0], len(first))
    angle = np.tile(first, 2)
    x = side * rng.uniform(0.13, 0.16, len(side))
    y = np.where(side < 0, -0.07, -0.11) + 0.11 * np.sin(angle)
    angle = angle + rng.normal(0, 0.15, len(side))
    width = 0.021 + 0.006 * (angle > 0.3)
    lines = []
    for level in range(5, 0, -1):
        for _ in range(2):  # two bent strokes, then each vessel divides
            length = (0.030 + 0.011 * level) * rng.uniform(0.6, 1.3, len(x))
            to_x, to_y = x + side * length * np.cos(angle), y + length * np.sin(angle)
            height = np.full(len(x), 0.22 + 0.155 * level)
            lines.append(np.column_stack([x, y, to_x, to_y, width, height]))
            x, y, angle = to_x, to_y, angle + rng.normal(0, 0.16, len(x))
        spread = rng.uniform(0.30, 0.65, len(x))
        angle = np.concatenate([angle + 0.5 * spread, angle - 0.8 * spread])
        width = np.concatenate([0.72 * width, 0.60 * width])
        x, y, side = (np.tile(values, 2) for values in (x, y, side))
    drawn = np.concatenate(lines)
    drawn[:, 0:2], drawn[:, 2:4] = pose.to_image(drawn[:, 0:2]), pose.to_image(drawn[:, 2:4])
    return 1.25 * anatomy.vessel_density * blur(draw_lines(drawn, size), 0.006)
