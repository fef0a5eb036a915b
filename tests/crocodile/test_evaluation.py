"""What a validation says: the mean AUC that selects, the domain's, and scores of every image."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.crocodile.golden import case, near
from tests.crocodile.hospitals import NETWORK, write_experiment
from workflow_scripts.crocodile.build import make_objective
from workflow_scripts.crocodile.cases import Cases, Dataset, DatasetFiles, read_dataset
from workflow_scripts.crocodile.evaluation import evaluate, mean_auc, validation_metrics
from workflow_scripts.crocodile.model import Objective
from workflow_scripts.crocodile.protocols import PROTOCOLS
from workflow_scripts.crocodile.settings import LossWeights, Shape
from workflow_scripts.crocodile.trunk import SmallTrunk
from workflow_scripts.crocodile.variants import VARIANTS
from workflow_scripts.datasets.chest_findings import NINE
from workflow_scripts.training.devices import DeviceRequest, Devices, set_up

KINDS = ("manifests", "cards", "stores", "indexes")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    hospitals = write_experiment(tmp_path_factory.mktemp("hospitals"))[:3]
    return [
        read_dataset(DatasetFiles(*(one.path(kind) for kind in KINDS)), NINE, 64)
        for one in hospitals
    ]


@pytest.fixture(scope="module")
def devices() -> Devices:
    return set_up(DeviceRequest())


def objective(protocol: str) -> Objective:
    found = make_objective(
        [SmallTrunk(), SmallTrunk()], NINE, 3, Shape(**NETWORK), VARIANTS["full"],  # type: ignore[arg-type]
        PROTOCOLS[protocol],  # type: ignore[index]
        LossWeights(**dict.fromkeys(LossWeights.__slots__, 1.0)), seed=0,
    )  # fmt: skip
    assert isinstance(found, Objective)
    return found


def test_the_mean_auc_is_the_golden_one_and_leaves_no_finding_out() -> None:
    name = "mean_auc_excluding_no_finding"
    inputs, expected = case(name)
    labels = np.repeat([1, 0], 100)[:, None] * np.ones((1, 9), int)
    logits = np.zeros((200, 9))
    for k, auc in enumerate(inputs["auc"]):
        won = round(100 * auc)  # so many positives beat every negative, the others lose to all
        logits[:100, k] = np.where(np.arange(100) < won, 1, -1)
    near(mean_auc(labels, logits, NINE), expected["mean"], name)


def test_a_finding_that_validation_cannot_judge_is_left_out_of_the_selecting_mean() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, (30, 9)), rng.normal(size=(30, 9))
    labels[:, 0] = 0
    without = mean_auc(labels[:, 1:], logits[:, 1:], NINE[1:])
    assert mean_auc(labels, logits, NINE) == pytest.approx(without)
    assert math.isnan(mean_auc(np.zeros((4, 9)), np.zeros((4, 9)), NINE))


def test_validation_states_heads_loss_and_domain() -> None:
    inputs, expected = case("domain_macro_ovo_auc")
    domains = np.array(inputs["targets"])
    n = len(domains)
    labels = np.random.default_rng(0).integers(0, 2, (n, 9)).astype(np.float32)
    found = {"causal": labels * 2 - 1, "loss": np.arange(n, dtype=float),
             "domain": np.array(inputs["probs"])}  # fmt: skip
    cases: Any = SimpleNamespace(labels=labels, domains=domains)
    metrics = validation_metrics(found, cases, NINE)
    near(metrics["val_domain_auc"], expected["auc"], "domain_macro_ovo_auc")
    assert set(metrics) == {"val_mean_auc_causal", "val_loss", "val_domain_auc"}
    assert metrics["val_loss"] == (n - 1) / 2


def test_only_the_released_scores_depend_on_the_batch(
    sources: list[Dataset], devices: Devices
) -> None:
    cases = Cases(sources, "val")
    for protocol, seed in (("corrected", None), ("released", 5)):
        network = objective(protocol)
        one, three = (
            evaluate(network, cases, devices, size, seed)["intervened"] for size in (12, 3)
        )
        again = evaluate(network, cases, devices, 3, seed)["intervened"]
        assert np.array_equal(three, again)
        is_equal = np.allclose(one, three, rtol=1e-4, atol=1e-5)
        assert is_equal == (protocol == "corrected")


def test_evaluation_gives_every_case_its_scores_and_goes_back_to_training(
    sources: list[Dataset], devices: Devices
) -> None:
    network, cases = objective("corrected").train(), Cases(sources, "val")
    found = evaluate(network, cases, devices, 5, None, with_loss=True)
    assert {name: values.shape for name, values in found.items()} == {
        "causal": (12, 9), "intervened": (12, 9), "spurious": (12, 9), "domain": (12, 3),
        "loss": (12,),
    }  # fmt: skip
    assert np.allclose(found["domain"].sum(axis=1), 1)
    assert network.training
    maps = evaluate(network, cases, devices, 5, None)["causality"]
    assert maps.shape == (12, 9, 9)
    assert 0 <= maps.min() <= maps.max() <= 1


def test_images_reach_the_network_as_stored_between_minus_one_and_one(
    sources: list[Dataset],
) -> None:
    from workflow_scripts.crocodile.cases import network_input

    cases = Cases(sources, "train")
    image, labels, domain = cases[11]
    assert domain == 1  # ten training images a hospital
    row = cases.table.iloc[11]
    assert row["dataset"] == "south"
    stored = sources[1].images[row["store_row"]]
    assert np.array_equal(image[0].numpy(), stored[..., 0])
    assert np.array_equal(labels.numpy(), cases.labels[11])
    inputs = network_input(image)
    assert -1 <= float(inputs.min()) <= float(inputs.max()) <= 1
    np.testing.assert_allclose(inputs[0].numpy(), (stored[..., 0] / 255 - 0.5) / 0.5, atol=1e-6)
