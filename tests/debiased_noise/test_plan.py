"""The plan asks for exactly the files that the configuration describes."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from workflow_scripts.debiased_noise.plan import DebiasedNoisePlan
from workflow_scripts.problems import InputError


@pytest.fixture
def config() -> dict[str, Any]:
    with open("config.yaml", encoding="utf-8") as handle:
        content: dict[str, Any] = yaml.safe_load(handle)
    return content


def wildcards(**named: str) -> SimpleNamespace:
    return SimpleNamespace(protocol="corrected", dataset="d", seed="1", **named)


def test_the_published_table_has_every_run_once(config: dict[str, Any]) -> None:
    plan = DebiasedNoisePlan(config)
    paths = plan.predictions("fairness")
    assert len(paths) == len(set(paths)) == 3 + 2 * 3 * 8 * 3 + 2 * 6 * 3
    assert plan.tables()["debiased_noise_fairness"]() == paths
    assert paths[0] == (
        "results/debiased_noise/heads/released/notebook/chexpert_dne_effusion/erm/seed0/"
        "predictions.parquet"
    )
    courses = plan.tables()["debiased_noise_course"]()
    assert [path.rsplit("/", 1)[0] for path in courses] == [p.rsplit("/", 1)[0] for p in paths]
    used = {named.name for named in plan.names()}
    assert {"mae_vitb16_cxr", "mae_vitb16_cxr_token", "chexpert_dne_edema"} <= used


def test_every_backbone_of_the_zoo_is_edited_by_its_own_name(config: dict[str, Any]) -> None:
    plan = DebiasedNoisePlan(config)
    zoo = config["ssl_transfer"]["checkpoints"]
    paths = plan.tables()["debiased_noise_backbones"]()
    assert len(paths) == len(zoo) * 3 * 3
    for name in zoo:
        assert plan.checkpoint("edit", name) == plan.checkpoint("head", name) == name
        assert any(f"/{name}/chexpert_dne_effusion/white_box/" in path for path in paths)
    run = SimpleNamespace(
        protocol="corrected", read_out="moco-v2", dataset="chexpert_dne_effusion",
        method="erm", seed="2",
    )  # fmt: skip
    assert plan.table_of(run) == "debiased_noise_backbones"
    run.read_out = "pooled"
    assert plan.table_of(run) == "debiased_noise_fairness"


def test_images_have_the_size_that_the_checkpoint_takes(config: dict[str, Any]) -> None:
    changed = copy.deepcopy(config)
    changed["checkpoints"]["swav"]["size_px"] = 96
    plan = DebiasedNoisePlan(changed)
    assert plan.images("moco-v2", "d")["store"] == "results/datasets/d/store/exact224.npy"
    assert plan.images("swav", "d")["index"] == "results/datasets/d/store/exact96.parquet"
    changed["debiased_noise"]["read_outs"]["pooled"]["head"] = "swav"
    with pytest.raises(InputError, match="one size"):
        list(DebiasedNoisePlan(changed).names())


def test_two_data_sets_of_one_disease_can_have_columns_of_their_own(config: dict[str, Any]) -> None:
    changed = copy.deepcopy(config)
    changed["debiased_noise"]["columns"] = {"other_clinic": "other clinic"}
    plan = DebiasedNoisePlan(changed)
    assert plan.column_word("other_clinic") == "--column 'other clinic'"
    assert plan.column_word("chexpert_dne_edema") == ""


def test_a_head_in_two_tables_is_refused(config: dict[str, Any]) -> None:
    changed = copy.deepcopy(config)
    changed["debiased_noise"]["runs"][-1]["read_outs"].append("pooled")
    with pytest.raises(InputError, match="fairness and backbones"):
        list(DebiasedNoisePlan(changed).names())


def test_a_head_without_edit_reads_unedited_images_and_the_others_their_edit(
    config: dict[str, Any],
) -> None:
    plan = DebiasedNoisePlan(config)
    erm, white = (wildcards(method=m, read_out="notebook") for m in ("erm", "white_box"))
    assert plan.edit_of_run(erm) == []
    assert plan.edit_word(erm) == ""
    top = "results/debiased_noise"
    assert plan.embeddings(erm, "head") == f"{top}/embeddings/mae_vitb16_cxr_token/d/unedited.npz"
    edited = "corrected-mae_vitb16_cxr-white_box-seed1"
    # the notebook trains the edit on pooled and the head on class-token features
    assert plan.embeddings(white, "head") == (
        f"{top}/embeddings/mae_vitb16_cxr_token/d/{edited}.npz"
    )
    assert plan.embeddings(white, "edit") == f"{top}/embeddings/mae_vitb16_cxr/d/{edited}.npz"
    edit = f"{top}/edits/corrected/mae_vitb16_cxr/d/white_box/seed1/noise_edit.safetensors"
    assert plan.edit_of_run(white) == [edit]
    # the classifier trained anew finds the same edit by the name of its embeddings
    named = SimpleNamespace(edited=edited, dataset="d")
    assert plan.edit_of_embeddings(named) == {"edit": edit}
    assert plan.edit_of_embeddings(SimpleNamespace(edited="unedited", dataset="d")) == {}
    assert plan.frozen(white) == (
        f"{top}/attribute/corrected/mae_vitb16_cxr/d/seed1/attribute_classifier.safetensors"
    )
    assert plan.retrained(white) == (
        f"{top}/retrained/mae_vitb16_cxr_token/d/{edited}/seed1/attribute_classifier.safetensors"
    )


def test_only_stochastic_depth_reads_network_and_images(config: dict[str, Any]) -> None:
    plan = DebiasedNoisePlan(config)
    assert plan.live_files("head", "corrected", "c", "d") == {}
    files = plan.live_files("attribute", "released", "c", "d")
    assert files["store"] == "results/datasets/d/store/exact224.npy"
    assert plan.live_words("head", "released", "c", "d").startswith("--backbone results/")


def test_an_unknown_read_out_is_refused_with_the_nearest(config: dict[str, Any]) -> None:
    changed = copy.deepcopy(config)
    changed["debiased_noise"]["runs"][0]["read_outs"] = ["poled"]
    with pytest.raises(InputError, match="pooled"):
        list(DebiasedNoisePlan(changed).names())


def test_the_attribute_is_that_of_the_biased_split(config: dict[str, Any]) -> None:
    changed = copy.deepcopy(config)
    changed["datasets"]["chexpert_dne_edema"]["biased_split"]["attribute"] = "race"
    plan = DebiasedNoisePlan(changed)
    assert plan.attribute("chexpert_dne_edema") == "race"
    assert plan.attribute("chexpert_dne_effusion") == "sex"
    assert plan.attribute("shenzhen") == "sex"  # released index files: the released code's


def test_every_learned_edit_has_one_picture(config: dict[str, Any]) -> None:
    figures = DebiasedNoisePlan(config).figures()
    n_backbones = len(config["ssl_transfer"]["checkpoints"])
    assert len(figures) == len(set(figures)) == 2 + 2 * 3 * 3 + 2 * 2 + n_backbones + 2
    assert figures[-2:] == [
        "results/figures/debiased_noise_fairness_plane.png",
        "results/figures/debiased_noise_backbones_plane.png",
    ]
    assert not any("gaussian" in name for name in figures)  # drawn, not learned
