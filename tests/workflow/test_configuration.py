"""A configuration that does not fit is refused with file, key and the nearest valid name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow_scripts.problems import InputError
from workflow_scripts.settings import check_config, read_schema


@pytest.fixture(scope="module")
def schema(root: Path) -> dict[str, Any]:
    return dict(read_schema(root / "rules/schemas"))


@pytest.fixture
def config(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((root / "config.yaml").read_text())
    return loaded


def test_published_configuration_is_accepted(
    config: dict[str, Any], schema: dict[str, Any]
) -> None:
    check_config(config, schema)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("ssl_transfer", "few_shto"), {}, ["ssl_transfer.few_shto", "did you mean 'few_shot'"]),
        (("seed",), "zero", ["key seed", "type integer", "'zero'"]),
        (("ssl_transfer", "few_shot", "n_suport"), 5, ["n_suport", "did you mean 'n_support'"]),
        (("ssl_transfer", "few_shot", "n_query"), 0, ["n_query", "at least 1"]),
        (("ssl_transfer", "few_shot", "protocols"), ["relased"], ["released, corrected"]),
        (("ssl_transfer", "checkpoints"), ["moco-v3"], ["'moco-v3'", "did you mean 'moco-v2'"]),
        (
            ("ssl_transfer", "linear", "columns"),
            [{"dataset": "shenzen"}],
            ["columns.0.dataset", "did you mean 'shenzhen'"],
        ),
        (
            ("datasets", "chestx", "label_polcy"),
            "x",
            ["key datasets.chestx", "did you mean 'label_policy'"],
        ),
        (("datasets", "bach", "layout"), "bahc", ["key datasets.bach", "did you mean 'bach'"]),
        (
            ("checkpoints", "moco-v2", "licnce"),
            "x",
            ["key checkpoints.moco-v2", "did you mean 'licence'"],
        ),
        (("phantoms", "checkpoints"), True, ["pathvars.results", "results/demo"]),
        (
            ("ssl_transfer", "finetune", "columns"),
            [{"dataset": "bach"}, {"dataset": "bach", "lr": 0.1}],
            ["ssl_transfer.finetune.columns.1", "results of their own", "the same again: bach"],
        ),
        (
            ("ssl_transfer", "few_shot", "columns"),
            [{"dataset": "bach", "n_way": 2}, {"dataset": "padchest", "n_way": 2}],
            ["few_shot.columns.1", "padchest, of layout padchest", "protocols: [corrected]"],
        ),
        (
            ("ssl_transfer", "linear", "columns"),
            [{"dataset": "chexpert"}, {"dataset": "bach", "column": "chexpert"}],
            ["ssl_transfer.linear.columns.1", "'chexpert' for protocol released, as columns.0"],
        ),
        (
            ("ssl_transfer", "invariance", "columns"),
            [
                {"dataset": "bach", "transform": "rotation"},
                {"dataset": "bach", "transform": "rotation", "k": 256, "batch_norm": "eval"},
            ],
            ["invariance.columns.1", "the same again: bach, rotation, 256, eval"],
        ),
        (
            ("ssl_transfer", "invariance", "columns"),
            [
                {"dataset": "bach", "transform": "rotation"},
                {"dataset": "bach", "transform": "rotation", "k": 20, "protocols": ["released"]},
            ],
            ["columns.1", "names of their own", "'bach rotation' for protocol released"],
        ),
        (
            ("ssl_transfer", "linear", "columns"),
            [{"dataset": "chexpert_linear", "column": "chexpert"}, {"dataset": "chexpert"}],
            ["linear.columns.1", "names of their own", "'chexpert' for protocol released"],
        ),
        (
            ("ssl_transfer", "invariance", "columns"),
            [{"dataset": "bach", "transform": "translation", "k": 20}],
            ["ssl_transfer.invariance.columns.0.k", "whole (9, 16, 25)", "k = 20"],
        ),
        (
            ("ssl_transfer", "invariance", "columns"),
            [{"dataset": "chexpert", "transform": "multi_view", "k": 2}],
            ["columns.0.k", "a pair of views has one version"],
        ),
        (
            ("ssl_transfer", "few_shot"),
            {
                "protocols": ["corrected"],
                "seeds": [0],
                "n_support": 5,
                "n_query": 5,
                "n_episodes": 10,
                "columns": [{"dataset": "bach", "n_way": 2, "protocols": ["released"]}],
            },
            ["few_shot.columns.0.protocols", "some of corrected", "found released"],
        ),
        (
            ("ssl_transfer", "saliency", "window"),
            200,
            ["key ssl_transfer.saliency", "at least 399 px", "242 px"],
        ),
        (
            ("ssl_transfer", "reconstruction", "columns"),
            [{"dataset": "bach", "column": "tissue", "images": ["iv001.tif"]}],
            ["reconstruction.columns.0", "'column'"],  # the distances would not be called so
        ),
        (
            ("ssl_transfer", "reconstruction", "columns"),
            [{"dataset": "bach", "images": ["iv001.tif", "iv002.tif"]}],
            ["reconstruction.columns.0.images", "maxItems: 1"],
        ),
        (
            ("ssl_transfer", "analysis", "imagenet_top1"),
            {"moco-v3": 0.711},
            ["analysis.imagenet_top1.moco-v3", "did you mean 'moco-v2'"],  # else without a point
        ),
        (("ssl_transfer", "saliency", "stride"), 11, ["saliency", "stride of at least 1"]),
        (
            ("cooperative_training", "test_sets"),
            ["mms_137", "acdc"],
            ["key cooperative_training.test_sets", "acdc first", "found mms_137, acdc"],
        ),
        (
            ("cooperative_training", "test_sets"),
            ["mms_137"],
            ["key cooperative_training.test_sets", "acdc first", "found mms_137; next"],
        ),
        (
            ("cooperative_training", "runs"),
            [{"patients": "10_cv_0", "seed": 7}, {"patients": "10_cv_2", "seed": 7}],
            ["cooperative_training.runs.1", "seed 7 for 10_cv_0 and 10_cv_2"],
        ),
        (
            ("cooperative_training", "test_sets"),
            ["acdc", "mms"],
            ["cooperative_training.experiment", "with mms", "add it to experiments.cooperative"],
        ),
    ],
)
def test_wrong_key_or_value_is_refused(
    config: dict[str, Any],
    schema: dict[str, Any],
    path: tuple[str, ...],
    value: object,
    words: list[str],
) -> None:
    wrong = copy.deepcopy(config)
    inner = wrong
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(InputError) as refusal:
        check_config(wrong, schema)
    for word in words:
        assert word in str(refusal.value)


def test_message_names_the_file_with_the_key(
    config: dict[str, Any], schema: dict[str, Any], tmp_path: Path, root: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("ssl_transfer: {few_shot: {n_episode: 10}}\n")
    config["ssl_transfer"]["few_shot"]["n_episode"] = 10
    with pytest.raises(InputError, match=r"mine\.yaml key ssl_transfer\.few_shot\.n_episode"):
        check_config(config, schema, [root / "config.yaml", mine])


def test_every_problem_is_in_one_message(config: dict[str, Any], schema: dict[str, Any]) -> None:
    config["sed"] = 0
    config["ssl_transfer"]["few_shot"]["seeds"] = []
    with pytest.raises(InputError) as refusal:
        check_config(config, schema)
    assert len(refusal.value.problems) == 2
