"""Golden numbers of the released code: uncertainty, agreement, combination, STAPLE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from workflow_scripts.layer_ensembles.combination import combine
from workflow_scripts.layer_ensembles.protocols import OPTIONS
from workflow_scripts.layer_ensembles.scores import case_rows
from workflow_scripts.layer_ensembles.staple import (
    UNDECIDED,
    binary_staple,
    binary_staple_mask,
    label_staple,
)
from workflow_scripts.metrics import uncertainty as u
from workflow_scripts.metrics.segmentation import dice, hausdorff, modified_hausdorff

Golden = dict[str, Any]
EXACT = 1e-9  # relative; the golden numbers were recomputed independently to it
BLOCK = "paper_era_3d_multiclass_block"


def logits_of(golden: Golden) -> np.ndarray[Any, Any]:
    return np.array(golden["uncertainty_binary_head_commit_skip0"]["logits_THCW"])


@pytest.mark.parametrize("skip", [0, 1])
def test_released_uncertainty_has_the_golden_maps_and_sums(golden: Golden, skip: int) -> None:
    case = golden[f"uncertainty_binary_head_commit_skip{skip}"]
    logits, truth = np.array(case["logits_THCW"])[skip:], np.array(case["label"])
    maps = u.uncertainty_maps(u.softmax(logits), "released")
    assert_allclose(maps.entropy, case["entropy_map"], rtol=EXACT)
    assert_allclose(maps.variance, case["variance_map"], rtol=EXACT)
    assert_allclose(maps.mutual_information, case["mi_map"], rtol=EXACT, atol=1e-15)
    sums = u.image_uncertainty(maps, "released")
    assert_allclose(sums, [case["entropy_sum"], case["mi_sum"], case["variance_sum"]], rtol=EXACT)
    nll = u.negative_log_likelihood(logits, truth, "released")
    assert nll == pytest.approx(case["nll_eps1e5"], rel=EXACT)
    assert -u.released_aula(len(logits)) == case["aula_1_as_written_soft_degenerate"]


def test_paper_block_of_lesions_with_staple_and_mean(golden: Golden) -> None:
    staple, mean = golden["paper_era_2d_block_staple"], golden["paper_era_2d_block_average"]
    logits, truth = logits_of(golden), np.array(staple["label"])
    p = u.softmax(logits)
    assert_allclose(binary_staple(p.argmax(axis=1) == 1), staple["staple_probability"], atol=1e-6)
    maps = u.uncertainty_maps(p, "paper")
    for found, name in zip(maps, ("entropy", "mi", "variance"), strict=True):
        normalised = u.minmax_normalise(found)
        assert_allclose(normalised, staple[f"{name}_map_norm"], rtol=EXACT, atol=1e-12)
        assert normalised.sum() == pytest.approx(staple[f"avg_{name}_normsum"], rel=EXACT)
    nll = u.negative_log_likelihood(logits, truth, "paper")
    assert nll == pytest.approx(staple["nll_no_eps"], rel=EXACT)
    label = combine(logits, p, "staple_released")
    assert dice(label, truth) == staple["dsc"]
    assert hausdorff(label, truth, (1, 1)) == staple["hd"]
    assert modified_hausdorff(label, truth, (1, 1)) == staple["mhd"]
    average, truth = combine(logits, p, "mean"), np.array(mean["label"])
    assert_allclose(p.mean(axis=0)[1], mean["foreground_prob"], rtol=EXACT)
    assert u.negative_log_likelihood(logits, truth, "paper") == pytest.approx(mean["nll_no_eps"])
    assert average.tolist() == mean["segmentation"]
    assert dice(average, truth) == pytest.approx(mean["dsc"], rel=EXACT)
    assert modified_hausdorff(average, truth, (1, 1)) == pytest.approx(mean["mhd"], rel=EXACT)
    assert hausdorff(average, truth, (1, 1)) == mean["hd"]


def test_released_segmentation_needs_a_probability_of_nine_tenths(golden: Golden) -> None:
    case = golden["segmentation_metrics_head_commit"]
    logits, truth = logits_of(golden), np.array(case["label"])
    label = combine(logits, u.softmax(logits), "mean_logits", OPTIONS["released"].threshold)
    found = [dice(label, truth), hausdorff(label, truth, (1, 1))]
    found.append(modified_hausdorff(label, truth, (1, 1)))
    assert_allclose(found, [case["result"][n] for n in ("dsc_1", "hd_1", "mhd_1")], rtol=EXACT)


def heart_row(golden: Golden, how: str) -> dict[str, Any]:
    """The row without skipped heads; the golden arrays are X, Y, Z."""
    logits = np.array(golden[BLOCK]["logits_TCXYZ"], dtype=np.float32)
    truth = np.array(golden[BLOCK]["label_map"], dtype=np.uint8)
    rows = case_rows(logits, truth, golden[BLOCK]["spacing"], ["lv", "myo", "rv"], [how],  # type: ignore[list-item]
                     OPTIONS["paper"])  # fmt: skip
    return next(rows)


def heart_label(golden: Golden, how: str) -> np.ndarray[Any, Any]:
    logits = np.array(golden[BLOCK]["logits_TCXYZ"], dtype=np.float32)
    return combine(logits, u.softmax(logits), how)  # type: ignore[arg-type]


def test_paper_block_of_hearts_with_staple(golden: Golden) -> None:
    case, row = golden[BLOCK], heart_row(golden, "staple_released")
    label, truth = heart_label(golden, "staple_released"), np.array(golden[BLOCK]["label_map"])
    assert label.tolist() == case["segmentation"]
    assert hausdorff(label, truth, case["spacing"]) == pytest.approx(case["hd_all"], rel=EXACT)
    found = [hausdorff(label == c, truth == c, case["spacing"]) for c in (1, 2, 3)]
    assert_allclose(found, case["hd_classes_LV_MYO_RV"], rtol=EXACT)
    names = ["", "_lv", "_myo", "_rv"]
    assert_allclose([row[f"dsc{n}"] for n in names],
                    [case["dsc_all"], *case["dsc_classes_LV_MYO_RV"]], rtol=EXACT)  # fmt: skip
    assert_allclose([row[f"mhd{n}"] for n in names],
                    [case["mhd_all"], *case["mhd_classes_LV_MYO_RV"]], rtol=EXACT)  # fmt: skip
    assert row["nll_paper"] == pytest.approx(case["nll_no_eps"], rel=1e-7)  # float32 logits
    for ours, theirs in (("entropy", "entropy"), ("variance", "variance"),
                         ("mutual_information", "mi")):  # fmt: skip
        expected = case[f"avg_{theirs}_normsum"]
        assert row[f"{ours}_paper"] == pytest.approx(expected, rel=1e-6), ours
    rows = np.array(case["agreement_rows_adjacent_cols_all_LV_MYO_RV"])
    found = [[row[f"agreement_{i + 1}{n}"] for n in names] for i in range(len(rows))]
    assert_allclose(found, rows, rtol=EXACT)
    assert_allclose([row[f"aula_paper{n}"] for n in names], case["aula_all_LV_MYO_RV"], rtol=EXACT)


def test_deep_ensembles_block_of_hearts(golden: Golden) -> None:
    case, row = golden["deep_ensembles_3d_block"], heart_row(golden, "mean")
    assert heart_label(golden, "mean").tolist() == case["segmentation"]
    assert row["nll_paper"] == pytest.approx(case["nll_no_eps"], rel=1e-7)
    classes = [row[f"dsc_{n}"] for n in ("lv", "myo", "rv")]
    assert_allclose([row["dsc"], *classes], [case["dsc_all"], *case["dsc_classes_LV_MYO_RV"]])
    assert row["mhd"] == pytest.approx(case["mhd_all"], rel=EXACT)
    found = [row[f"class_variance_{n}"] for n in ("lv", "myo", "rv")]
    assert_allclose(found, case["var_per_class_sum_of_softmax_variance"], rtol=1e-6)


def test_staple_has_the_golden_probabilities_labels_and_ties(golden: Golden) -> None:
    case = golden["staple"]
    found = binary_staple(np.array(case["binary_masks"], dtype=bool))
    assert_allclose(found, case["binary_probability"], atol=1e-6)
    assert label_staple(np.array(case["multilabel_maps"])).tolist() == case["multilabel_result"]
    assert label_staple(np.array(case["tie_maps"])).tolist() == case["tie_result"]
    assert case["undecided_label"] == UNDECIDED


@pytest.mark.parametrize("value", [False, True])
def test_staple_of_equal_masks_is_that_mask_also_empty_and_full(value: bool) -> None:
    masks = np.full((3, 4, 4), value)
    assert (binary_staple_mask(masks, released=True) == value).all()
    assert (label_staple(masks.astype(np.int64)) == value).all()
    mixed = np.zeros((3, 4, 4), dtype=bool)
    mixed[:, 1:3, 1:3] = True
    assert np.array_equal(binary_staple_mask(mixed, released=True), mixed[0])


def plain_staple(masks: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Warfield's binary EM as the equations stand (spec section 5): an independent reference."""
    rated = masks.reshape(len(masks), -1).astype(float)  # (T, pixels)
    weight = rated.mean(axis=0)
    prior, old = weight.mean(), np.ones((2, len(rated)))
    for number in range(1000):
        p = (rated * weight).sum(axis=1) / weight.sum()
        q = ((1 - rated) * (1 - weight)).sum(axis=1) / (1 - weight).sum()
        inside = np.where(rated == 1, p[:, None], 1 - p[:, None]).prod(axis=0)
        outside = np.where(rated == 1, 1 - q[:, None], q[:, None]).prod(axis=0)
        weight = prior * inside / (prior * inside + (1 - prior) * outside)
        if number > 0 and (np.square(np.stack([p, q]) - old) <= 1e-14).all():
            return weight.reshape(masks.shape[1:])
        old = np.stack([p, q])
    raise AssertionError("no convergence")


def plain_label_staple(labels: np.ndarray[Any, Any], undecided: int) -> np.ndarray[Any, Any]:
    """Multi-label EM as the equations stand (spec section 5), in double precision."""
    rated = labels.reshape(len(labels), -1)
    n_raters, n_labels = len(rated), int(rated.max()) + 1
    votes = np.stack([(rated == c).sum(axis=0) for c in range(n_labels)])  # (labels, pixels)
    prior = votes.sum(axis=1) / votes.sum()
    is_clear = (votes == votes.max(axis=0)).sum(axis=0) == 1
    confusion = np.zeros((n_raters, n_labels, n_labels))
    for rater in range(n_raters):
        np.add.at(confusion[rater], (rated[rater, is_clear], votes[:, is_clear].argmax(axis=0)), 1)
    total = confusion.sum(axis=2, keepdims=True)
    np.divide(confusion, total, out=confusion, where=total > 0)
    for _ in range(1000):
        weight = prior[:, None] * np.prod([m[r] for m, r in zip(confusion, rated, strict=True)],
                                          axis=0).T  # fmt: skip
        weight = weight / weight.sum(axis=0)
        new = np.zeros_like(confusion)
        for rater in range(n_raters):
            np.add.at(new[rater], rated[rater], weight.T)
        new /= new.sum(axis=1, keepdims=True)
        change, confusion = np.abs(new - confusion).max(), new
        if change < 1e-5:
            break
    best = weight.argmax(axis=0)
    best[(weight == weight.max(axis=0)).sum(axis=0) > 1] = undecided
    return best.reshape(labels.shape[1:])


@pytest.mark.parametrize("seed", range(6))
def test_staple_follows_the_equations_written_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :24]
    radius = np.hypot(y - 11.5, x - 11.5)
    noise = rng.normal(0, 1.5, (5, 24, 24))  # raters stray and one is biased
    noise[0] -= 2
    masks = radius + noise < 7
    expected = plain_staple(masks)
    assert_allclose(binary_staple(masks), expected, atol=1e-6)
    both = [binary_staple_mask(masks, released=one) for one in (True, False)]
    clear = np.abs(expected - 0.5) < 0.499  # where one millionth and one half decide differently
    assert np.array_equal(both[1], expected > 0.5)
    assert (both[0] >= both[1]).all()
    assert np.array_equal(both[0][clear], np.ones(int(clear.sum()), dtype=bool))
    labels = (radius + noise < 9).astype(int) + (radius + noise < 6) + (radius + noise < 3)
    found, wanted = label_staple(labels), plain_label_staple(labels, UNDECIDED)
    assert (found == wanted).mean() > 0.995  # SimpleITK counts in float32
    assert len(np.unique(found)) == 4


def test_staple_does_not_depend_on_the_order_of_raters() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((5, 8, 8)) < 0.4
    assert_allclose(binary_staple(masks), binary_staple(masks[::-1]), atol=1e-9)


def test_combination_order_of_softmax_and_mean_decides(golden: Golden) -> None:
    case = golden["combination_order"]
    logits = np.array(case["logits_TCHW"])
    p = u.softmax(logits)
    assert_allclose(p.mean(axis=0).ravel(), case["mean_of_softmax"], rtol=EXACT)
    joined = u.softmax(logits.mean(axis=0, keepdims=True))
    assert_allclose(joined.ravel(), case["mean_logits_then_softmax"], rtol=EXACT)
    # the note says that these labels differ; its own numbers do not, so a case of ours does
    ours = np.array([[4.5, 0.0], [-1.0, 1.0], [-1.0, 1.0]])[..., None, None]
    both = [combine(ours, u.softmax(ours), how).item() for how in ("mean_logits", "mean")]  # type: ignore[arg-type]
    assert both == [0, 1]


@pytest.mark.parametrize("skip", range(3))
def test_aula_has_the_golden_agreements_and_areas(golden: Golden, skip: int) -> None:
    case = golden["aula_binary_10heads"]
    expected = case["results"][skip]
    masks = np.array(case["head_masks"], dtype=bool)[expected["skip"] :]
    agreements = u.layer_agreement(masks)
    assert_allclose(agreements, expected["adjacent_dice"], rtol=EXACT)
    areas = [value for key, value in expected.items() if "aula" in key or key == "area"]
    assert abs(u.aula(agreements)) == pytest.approx(abs(areas[0]), rel=EXACT)
    last = case["with_last_layer_variant"]
    with_last = u.agreement_with_last(np.array(case["head_masks"], dtype=bool))
    assert_allclose(with_last, last["dice_with_last"], rtol=EXACT)
    assert u.aula(with_last) == pytest.approx(last["area"], rel=EXACT)


def test_two_empty_masks_agree_with_zero(golden: Golden) -> None:
    case = golden["aula_two_empty_first_heads"]
    agreements = u.layer_agreement(np.array(case["head_masks"], dtype=bool))
    assert_allclose(agreements, case["adjacent_dice"], rtol=EXACT)
    assert u.aula(agreements) == pytest.approx(case["aula"], rel=EXACT)


def test_min_max_and_depth(golden: Golden) -> None:
    case, depth = golden["minmax_normalise"], golden["prediction_depth"]
    assert_allclose(u.minmax_normalise(np.array(case["x"])), case["y_0_1"], rtol=EXACT)
    assert_allclose(255 * u.minmax_normalise(np.array(case["x"])), case["y_0_255"], rtol=EXACT)
    constant = u.minmax_normalise(np.array(case["constant_input"]))
    assert constant.tolist() == case["constant_output"]
    found = [u.prediction_depth(np.array(a), depth["threshold"]) for a in depth["agreement"]]
    assert found == depth["depth"]


def test_classification_uncertainty(golden: Golden) -> None:
    case = golden["classification_uncertainty"]
    logits = np.array(case["logits_TC"])
    maps = u.uncertainty_maps(u.softmax(logits), "released")
    assert float(maps.entropy) == pytest.approx(case["entropy"], rel=EXACT)
    assert float(maps.mutual_information) == pytest.approx(case["mi"], rel=EXACT)
    spread = u.uncertainty_maps(u.softmax(logits), "corrected").variance
    assert float(spread) == pytest.approx(case["variance"], rel=EXACT)
    joined = u.softmax(logits.mean(axis=0, keepdims=True))[0]
    assert_allclose(joined, case["prediction_prob"], rtol=EXACT)
    nll = u.nll_of(joined[[case["truth"]]], u.RELEASED_NLL_EPSILON)
    assert nll == pytest.approx(case["nll_of_softmax_of_mean_logits"], rel=EXACT)


def test_equal_heads_have_no_spread_and_the_largest_aula() -> None:
    rng = np.random.default_rng(1)
    logits = np.repeat(rng.normal(size=(1, 3, 6, 6)), 5, axis=0)
    p = u.softmax(logits)
    for definition in u.DEFINITIONS:
        maps = u.uncertainty_maps(p, definition)
        assert np.abs(maps.mutual_information).max() < 1e-9
        assert np.abs(maps.variance).max() < 1e-30
    assert np.array_equal(combine(logits, p, "mean"), combine(logits, p, "last"))
    agreements = u.layer_agreement(p.argmax(axis=1) > 0)
    assert u.aula(agreements) == 5 - 2
    assert u.aula_share(agreements) == 1
    assert u.aula(u.layer_agreement(np.zeros((5, 6, 6), dtype=bool))) == 0


def test_bounds_of_entropy_information_and_nll() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=4, size=(6, 4, 9, 9))
    truth = rng.integers(0, 4, (9, 9))
    p = u.softmax(logits)
    for definition, slack in (("paper", 1.1e-5), ("corrected", 1e-12)):
        maps = u.uncertainty_maps(p, definition)  # type: ignore[arg-type]
        assert maps.entropy.min() >= -slack
        assert maps.entropy.max() <= math.log(4) + slack
        assert maps.mutual_information.min() >= -1e-12
        assert (maps.mutual_information <= maps.entropy + slack).all()
    plain, with_epsilon, stable = (
        u.negative_log_likelihood(logits, truth, one)
        for one in ("paper", "released", "corrected")  # type: ignore[arg-type]
    )
    assert with_epsilon <= plain == pytest.approx(stable, rel=1e-12)
    uniform = np.zeros((2, 4, 3, 3))
    assert u.negative_log_likelihood(uniform, truth[:3, :3], "paper") == pytest.approx(math.log(4))


def test_nll_of_an_impossible_truth_is_infinite_only_as_the_paper_computes_it() -> None:
    logits = np.array([[[1000.0], [0.0]]])  # (T, C, 1)
    truth = np.array([1])
    assert u.negative_log_likelihood(logits, truth, "paper") == math.inf
    assert u.negative_log_likelihood(logits, truth, "corrected") == pytest.approx(1000.0)
    released = u.negative_log_likelihood(logits, truth, "released")
    assert released == pytest.approx(-math.log(1e-5))
    volume = logits[..., None, None].astype(np.float32)
    mask = truth[:, None, None].astype(np.uint8)
    row = next(case_rows(volume, mask, (1, 1, 1), ["mass"], ["mean"], OPTIONS["paper"]))
    assert math.isnan(float(row["nll_paper"]))
    assert row["nll_infinite_paper"] == 1


@pytest.mark.parametrize(
    ("protocol", "found", "expected", "dsc", "infinite"),
    [
        ("paper", 0, 0, 0.0, 1.0),
        ("paper", 1, 0, 0.0, 1.0),
        ("corrected", 0, 0, math.nan, 0.0),
        ("corrected", 0, 1, 0.0, 1.0),
    ],
)
def test_empty_masks_have_the_documented_values(
    protocol: str, found: int, expected: int, dsc: float, infinite: float
) -> None:
    logits = np.zeros((3, 2, 1, 4, 4), dtype=np.float32)
    logits[:, found] = 5.0
    truth = np.full((1, 4, 4), expected, dtype=np.uint8)
    row = next(
        case_rows(logits, truth, (1, 1, 1), ["mass"], ["mean"], OPTIONS[protocol])  # type: ignore[index]
    )
    assert row["dsc"] == pytest.approx(dsc, nan_ok=True)
    assert math.isnan(float(row["mhd"]))
    assert row["mhd_infinite"] == infinite
    assert row["aula_paper"] == (0.0 if found == 0 else 1.0)


def test_skipping_shortens_the_list_and_the_last_head_does_not_care() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(5, 3, 2, 8, 8)).astype(np.float32)
    truth = rng.integers(0, 3, (2, 8, 8)).astype(np.uint8)
    rows = list(case_rows(logits, truth, (1, 1, 1), ["a", "b"], ["last"], OPTIONS["paper"]))
    assert [row["skip"] for row in rows] == [0, 1, 2, 3, 4]
    assert len({row["dsc"] for row in rows}) == 1
    masks = u.most_likely(u.softmax(logits)) > 0
    areas = [u.aula(u.layer_agreement(masks[skip:])) for skip in range(5)]
    assert_allclose([row["aula_paper"] for row in rows], areas)
    assert [row["aula_released"] for row in rows] == [3, 2, 1, 0, 0]
    assert math.isnan(float(rows[3]["aula_corrected"]))  # two predictions make no curve


@pytest.mark.parametrize("seed", range(5))
def test_aula_is_bounded_and_grows_by_a_repeated_last_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((6, 9, 9)) < rng.uniform(0.2, 0.9)
    agreements = u.layer_agreement(masks)
    assert 0 <= u.aula(agreements) <= 6 - 2
    longer = u.layer_agreement(np.concatenate([masks, masks[-1:]]))
    assert u.aula(longer) == pytest.approx(u.aula(agreements) + (agreements[-1] + 1) / 2)


def test_variance_of_the_corrected_definition_does_not_know_the_numbers_of_classes() -> None:
    logits = np.random.default_rng(4).normal(size=(4, 4, 6, 6))
    renamed = logits[:, [3, 1, 0, 2]]
    for definition, is_equal in (("corrected", True), ("paper", False)):
        both = [u.uncertainty_maps(u.softmax(one), definition) for one in (logits, renamed)]  # type: ignore[arg-type]
        assert_allclose(both[0].entropy, both[1].entropy)
        assert np.allclose(both[0].variance, both[1].variance) is is_equal
        normalised = u.minmax_normalise(both[0].entropy)
        assert 0 <= normalised.min() <= normalised.max() < 1
