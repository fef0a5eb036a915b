"""A chest phantom shows what is true of it, as strongly as its knobs say, and nothing else."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.phantoms.chest import FINDINGS, ChestCase, Pose, render_chest
from workflow_scripts.phantoms.chest_anatomy import as_portable, cage_edge, draw_anatomy
from workflow_scripts.phantoms.fields import square_grid
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.randomness import named_rng

SIZE = 96
PLAIN = Knobs(artefact_level=0.0)


def chest(
    patient: int = 0,
    findings: tuple[str, ...] = (),
    knobs: Knobs = PLAIN,
    sex: str | None = "M",
    age_years: float = 50.0,
    image_id: str = "a",
    view: str = "PA",
    size: int = SIZE,
) -> np.ndarray:
    case = ChestCase(image_id, findings, sex, age_years, view)
    streams = partial(named_rng, 0, "test", str(patient))
    return render_chest(streams, case, knobs, size).astype(float)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of the picture below the markers."""
    return float(np.abs(a - b)[SIZE // 6 :].mean())


def test_same_streams_give_the_same_picture() -> None:
    np.testing.assert_array_equal(chest(3, ("Mass",)), chest(3, ("Mass",)))


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_changes_the_picture_and_more_so_with_more_signal(finding: str) -> None:
    changes = []
    for signal in (0.0, 0.5, 1.0):
        knobs = Knobs(disease_signal=signal, artefact_level=0.0)
        pairs = [(chest(p, (finding,), knobs), chest(p, (), knobs)) for p in range(4)]
        changes.append(np.mean([difference(ill, well) for ill, well in pairs]))
    assert changes[0] == 0.0
    assert 0.0 < changes[1] < changes[2]


def test_opacities_make_the_lungs_brighter_and_emphysema_darker() -> None:
    lung = np.s_[SIZE // 4 : SIZE // 2, SIZE // 5 : -SIZE // 5]
    for finding, sign in (("Edema", 1), ("Infiltration", 1), ("Emphysema", -1)):
        shifts = [chest(p, (finding,))[lung].mean() - chest(p)[lung].mean() for p in range(6)]
        assert sign * np.mean(shifts) > 0


def test_finding_stays_where_it_was_in_the_next_image_of_the_patient() -> None:
    def place(patient: int, image_id: str) -> np.ndarray:
        ill, well = (chest(patient, findings, image_id=image_id) for findings in (("Mass",), ()))
        change = np.abs(ill - well)
        return np.array(np.unravel_index(change.argmax(), change.shape))

    moves = [np.abs(place(patient, "a") - place(patient, "b")).max() for patient in range(5)]
    apart = [np.abs(place(patient, "a") - place(patient + 1, "a")).max() for patient in range(5)]
    assert max(moves) < 0.2 * SIZE
    assert np.mean(moves) < np.mean(apart)


def test_images_of_one_patient_are_more_alike_than_of_two() -> None:
    same = [difference(chest(p, image_id="a"), chest(p, image_id="b")) for p in range(8)]
    other = [difference(chest(p, image_id="a"), chest(p + 1, image_id="b")) for p in range(8)]
    assert 0 < np.mean(same) < np.mean(other)


def test_sex_and_age_show_only_with_attribute_signal() -> None:
    with_signal, without = PLAIN, Knobs(attribute_signal=0.0, artefact_level=0.0)
    np.testing.assert_array_equal(chest(sex="F", knobs=without), chest(sex="M", knobs=without))
    np.testing.assert_array_equal(
        chest(age_years=8.0, knobs=without), chest(age_years=80.0, knobs=without)
    )
    assert difference(chest(sex="F", knobs=with_signal), chest(sex="M", knobs=with_signal)) > 1
    assert difference(chest(age_years=8.0), chest(age_years=80.0)) > 1


def portable_rate(is_ill: bool, strength: float) -> float:
    """Share of images that differ from the same ones without the label `PORTABLE`."""
    findings = ("Effusion",) if is_ill else ()
    never = Knobs(confounder_strength=1.0, artefact_level=0.0, disease_signal=0.0)
    knobs = Knobs(confounder_strength=strength, artefact_level=0.0, disease_signal=0.0)
    pairs = [(chest(p, findings, knobs, size=64), chest(p, (), never, size=64)) for p in range(24)]
    return float(np.mean([np.any(found != unmarked) for found, unmarked in pairs]))


def test_confounder_goes_with_disease_as_strongly_as_its_knob_says() -> None:
    unrelated = portable_rate(is_ill=True, strength=0.0)
    assert unrelated == portable_rate(is_ill=False, strength=0.0)
    assert 0.25 < unrelated < 0.75
    assert portable_rate(is_ill=True, strength=0.5) > portable_rate(is_ill=False, strength=0.5)
    assert portable_rate(is_ill=True, strength=1.0) == 1.0


def test_contour_ambiguity_softens_the_heart_border() -> None:
    def steepest(ambiguity: float) -> float:
        knobs = Knobs(contour_ambiguity=ambiguity, artefact_level=0.0)
        picture = np.mean([chest(p, knobs=knobs) for p in range(4)], axis=0)
        heart_rows = picture[SIZE // 2 : int(0.62 * SIZE), SIZE // 3 : -SIZE // 5]
        return float(np.abs(np.diff(heart_rows, axis=1)).max())

    assert steepest(2.0) < steepest(0.0)


def test_domain_shift_changes_tone_and_noise() -> None:
    def noise(shift: float) -> float:
        knobs = Knobs(domain_shift=shift, artefact_level=0.0)
        flat = chest(size=256, knobs=knobs)[200:240, 60:100]
        return float(np.diff(flat, axis=1).std())

    assert difference(chest(knobs=Knobs(domain_shift=1.0, artefact_level=0.0)), chest()) > 3
    assert noise(1.0) > noise(0.0)


def test_artefacts_appear_with_their_level() -> None:
    def added(level: float) -> float:
        knobs = Knobs(artefact_level=level)
        return float(np.mean([difference(chest(p, knobs=knobs), chest(p)) for p in range(5)]))

    assert added(0.0) == 0.0
    assert added(3.0) > added(0.3)


def test_portable_view_has_the_larger_heart_and_higher_diaphragm() -> None:
    anatomy = draw_anatomy(named_rng(0, "a"), "M", 50.0, PLAIN)
    lying = as_portable(anatomy)
    assert lying.cardiothoracic_ratio > anatomy.cardiothoracic_ratio
    assert lying.dome[0] < anatomy.dome[0]


def test_healthy_hearts_are_narrower_than_half_the_chest() -> None:
    ratios = [
        draw_anatomy(named_rng(seed, "a"), "F", 50.0, PLAIN).cardiothoracic_ratio
        for seed in range(200)
    ]
    assert np.quantile(ratios, 0.99) < 0.5


@settings(max_examples=25)
@given(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(0.9, 1.1))
def test_pose_to_image_undoes_to_body(x: float, y: float, angle: float, zoom: float) -> None:
    pose, grid = Pose((x, y), angle, zoom), square_grid(8)
    body = pose.to_body(grid)
    image = pose.to_image(np.column_stack([body.x.ravel(), body.y.ravel()]))
    np.testing.assert_allclose(image[:, 0], grid.x.ravel(), atol=1e-5)
    np.testing.assert_allclose(image[:, 1], grid.y.ravel(), atol=1e-5)


def test_rib_cage_is_widest_where_it_says_and_closed_at_the_top() -> None:
    anatomy = draw_anatomy(named_rng(0, "a"), "M", 50.0, PLAIN)
    heights = np.array([anatomy.apex, anatomy.widest, 0.9], dtype=np.float32)
    top, widest, bottom = cage_edge(heights, anatomy)
    assert top == pytest.approx(0.0, abs=2e-3)
    assert widest == pytest.approx(anatomy.half_width, rel=1e-6)
    assert bottom < widest


def test_picture_keeps_its_look_at_another_size() -> None:
    small, large = chest(size=128), chest(size=256)
    shrunk = large.reshape(128, 2, 128, 2).mean(axis=(1, 3))
    assert np.abs(small - shrunk)[30:].mean() < 6


@pytest.mark.parametrize(("findings", "view"), [(("Effusions",), "PA"), ((), "lateral")])
def test_unknown_finding_or_view_is_refused(findings: tuple[str, ...], view: str) -> None:
    with pytest.raises(ValueError, match="no such finding or view"):
        chest(findings=findings, view=view)


@pytest.mark.parametrize(
    ("knob", "value", "lowest"),
    [
        ("disease_signal", -0.1, 0),
        ("confounder_strength", 1.5, -1),
        ("confounder_strength", -1.5, -1),
        ("domain_shift", "high", 0),
    ],
)
def test_knob_out_of_range_is_refused_by_name(knob: str, value: object, lowest: int) -> None:
    with pytest.raises(ValueError, match=f"{knob}: expected {lowest} to"):
        Knobs(**{knob: value})  # type: ignore[arg-type]
