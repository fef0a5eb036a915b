"""The benchmarks run at a tiny size; their equality is a test of the product."""

from __future__ import annotations

import pytest

from benchmarks import few_shot, invariance, linear_evaluation, linear_path, occlusion, saliency


@pytest.mark.slow
def test_few_shot_prints_what_the_plain_reference_prints() -> None:
    sizes = ["--n-way", "3", "--n-support", "2", "--n-query", "3", "--n-episodes", "2"]
    assert few_shot.main([*sizes, "--n-images", "28", "--side-px", "64"]) == 0


@pytest.mark.slow
def test_linear_evaluation_has_the_fits_of_scikit_learn_on_the_same_features() -> None:
    assert linear_evaluation.main(["--n-training", "60", "--n-test", "20", "--side-px", "64"]) == 0


def test_linear_path_has_the_coefficients_of_scikit_learn_on_one_thread() -> None:
    sizes = ["--n-images", "40", "--n-features", "16", "--n-classes", "3", "--n-fits", "6"]
    assert linear_path.main([*sizes, "--repeats", "1"]) == 0


def test_invariance_scores_equal_a_product_a_view() -> None:
    sizes = ["--n-views", "5", "--n-features", "24", "--n-statistics", "60"]
    assert invariance.main([*sizes, "--repeats", "1"]) == 0


@pytest.mark.parametrize("bn", ["eval", "released"])
def test_occlusion_scores_are_those_of_one_forward_pass_a_position(bn: str) -> None:
    sizes = ["--architecture", "resnet18", "--side-px", "40", "--n-rows", "1", "--batch", "8"]
    assert occlusion.main([*sizes, "--bn", bn]) == 0


@pytest.mark.slow
def test_the_step_prints_the_attentive_diffusion_of_the_plain_reference() -> None:
    assert saliency.main(["--architecture", "resnet18", "--side-px", "40", "--threads", "1"]) == 0
