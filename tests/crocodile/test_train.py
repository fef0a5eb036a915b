"""Training and testing a variant, from files to files."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from tests.crocodile.hospitals import (
    Hospital,
    predicting_words,
    training_words,
    write_experiment,
)
from workflow_scripts.checkpoints import convert
from workflow_scripts.crocodile import predict, train
from workflow_scripts.crocodile.variants import VARIANTS
from workflow_scripts.datasets.chest_findings import NINE
from workflow_scripts.predictions import METADATA_KEY
from workflow_scripts.problems import InputError
from workflow_scripts.training.failures import SavedNotFinished, TrainingFailure

SEEN = {  # terms that a variant's history must hold (spec section 8), and no other
    "resnet_asl": {"asl_causal"},
    "causal_cxr": {"asl_causal", "kl_spurious", "asl_intervened"},
    "baseline": {"asl_causal", "kl_spurious", "asl_intervened"},
}
SEEN["domain"] = SEEN["baseline"] | {"ce_causal", "kl_domain_spurious", "ce_intervened"}
SEEN["contrastive"] = SEEN["domain"] | {
    "image", "same_disease", "different_disease", "same_domain", "different_domain",
}  # fmt: skip
SEEN["full"] = SEEN["contrastive"] | {"prior"}


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> list[Hospital]:
    return write_experiment(tmp_path_factory.mktemp("hospitals"))


def history(path: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with path.open() as handle:
        for row in csv.DictReader(handle):
            found.setdefault(row["metric"], []).append(float(row["value"]))
    return found


def scored(out: Path, hospitals: list[Hospital]) -> dict[str, pd.DataFrame]:
    predict.main(predicting_words(out, "ID", hospitals[:3]))
    predict.main(predicting_words(out, "OOD", hospitals[3:]))
    return {role: pd.read_parquet(out / f"{role}.parquet") for role in ("ID", "OOD")}


@pytest.mark.parametrize("protocol", ["released", "corrected"])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_variant_trains_on_its_terms_and_scores_every_test_image_once(
    variant: str, protocol: str, hospitals: list[Hospital], tmp_path: Path
) -> None:
    train.main(training_words(hospitals, tmp_path, variant, protocol))
    found = history(tmp_path / "history.csv")
    terms = {name.removeprefix("train_") for name in found if name.startswith("train_")}
    assert terms == SEEN[variant] | {"loss"}
    total = sum(np.array(found[f"train_{name}"]) for name in SEEN[variant])
    np.testing.assert_allclose(total, found["train_loss"], rtol=1e-4)
    assert ("val_domain_auc" in found) == ("ce_causal" in SEEN[variant])
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["cases"]["train"]["images"] == 30
    assert record["selected_on"] == f"val_mean_auc_{VARIANTS[variant].heads[0]}"
    tables = scored(tmp_path, hospitals)
    assert len(tables["ID"]) == 3 * 5  # the test splits
    assert len(tables["OOD"]) == 19  # all of it
    assert set(tables["ID"]["split"]) == {"test"}
    for role, table in tables.items():
        scores = {name for name in table if name.startswith("score_")}
        heads = VARIANTS[variant].heads
        assert scores == {f"score_{head}_{one}" for head in heads for one in NINE}
        assert table["image_id"].is_unique
        assert np.isfinite(table[sorted(scores)]).all(axis=None)
        lines = (tmp_path / f"{role}.csv").read_text().splitlines()
        assert lines[0] == ",".join(["cause", *NINE])
        assert (",," in lines[1]) == (variant == "resnet_asl")  # it has no map


def test_predictions_say_what_they_are(hospitals: list[Hospital], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    train.main(training_words(hospitals, tmp_path))
    table = scored(tmp_path, hospitals)["OOD"]
    about = json.loads(pq.read_schema(tmp_path / "OOD.parquet").metadata[METADATA_KEY.encode()])
    assert (about["row"], about["column"], about["protocol"]) == ("full", "OOD", "corrected")
    assert (about["kind"], about["data"], about["dataset"]) == ("multilabel", "phantom", "abroad")
    assert about["options"]["scorer"] == "pair"
    assert about["diagnostics"]["trained_on"]["train"]["images"] == 30
    truth = hospitals[3].table()["label_Effusion"]
    assert table["truth_Effusion"].tolist() == truth.astype(int).tolist()
    assert table["patient_id"].str.startswith("abroad/").all()


def test_an_interrupted_training_ends_with_the_same_bytes(
    hospitals: list[Hospital], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops = {"dropout": 0.1, "intervention_dropout": 0.3}  # torch's own stream must survive too
    whole, torn = (
        training_words(hospitals, tmp_path / name, "full", "released", network=drops)
        for name in ("whole", "torn")
    )
    train.main(whole)
    real, calls = train.follow_cycle, 0

    def follow_cycle(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # in the first update of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        real(*arguments)

    monkeypatch.setattr(train, "follow_cycle", follow_cycle)
    with pytest.raises(SavedNotFinished):
        train.main(torn)
    assert not (tmp_path / "torn/model.safetensors").exists()
    monkeypatch.undo()
    train.main(torn)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "torn"))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    for file in ("history.csv", "training.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "torn" / file).read_bytes()


def test_the_cycle_ends_with_the_last_update_of_all(
    hospitals: list[Hospital], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []
    real = train.follow_cycle

    def follow_cycle(optimiser: Any, step: int, total: int) -> None:
        real(optimiser, step, total)
        group = optimiser.param_groups[0]
        seen.append((group["lr"], group["betas"][0]))

    monkeypatch.setattr(train, "follow_cycle", follow_cycle)
    train.main(training_words(hospitals, tmp_path, "baseline", training={"epochs": 4}))
    assert len(seen) == 4 * 3  # 30 training images in global batches of 8, the rest dropped
    rates, betas = zip(*seen, strict=True)
    assert rates[0] == pytest.approx(1e-3 / 25)
    assert rates[-1] == pytest.approx(1e-3 / 25 / 1e4)
    assert (betas[0], betas[-1]) == (pytest.approx(0.95), pytest.approx(0.95))


def test_frozen_parts_stay_and_the_trained_scorer_moves(
    hospitals: list[Hospital], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The released scorer is never trained, the corrected one is (spec section 13)."""
    moved = {}
    for protocol in ("released", "corrected"):
        kept: list[Any] = []
        real = train.assemble

        def assemble(*arguments: Any, real: Any = real, kept: list[Any] = kept) -> Any:
            pieces = real(*arguments)
            scorer = pieces.objective.scorer
            kept.extend([scorer, [p.detach().clone() for p in scorer.parameters()]])
            return pieces

        monkeypatch.setattr(train, "assemble", assemble)
        train.main(training_words(hospitals, tmp_path / protocol, "full", protocol))
        monkeypatch.undo()
        scorer, before = kept
        pairs = zip(scorer.parameters(), before, strict=True)
        moved[protocol] = [not bool((now == then).all()) for now, then in pairs]
    assert not any(moved["released"])
    assert all(moved["corrected"])


def test_patience_stops_and_the_best_weights_are_written(
    hospitals: list[Hospital], tmp_path: Path
) -> None:
    still = {"epochs": 9, "learning_rate": 1e-30, "patience": 2}  # never better than at first
    train.main(training_words(hospitals, tmp_path, "baseline", training=still))
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["best_step"] == 3
    assert len(history(tmp_path / "history.csv")["val_mean_auc_intervened"]) == 3


def test_bf16_trains_and_says_so(hospitals: list[Hospital], tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        train.main(training_words(hospitals, tmp_path / precision, precision=precision))
    assert json.loads((tmp_path / "bf16/training.json").read_text())["precision"] == "bf16"
    exact, rough = (history(tmp_path / p / "history.csv")["train_loss"] for p in ("fp32", "bf16"))
    assert exact != rough
    np.testing.assert_allclose(rough, exact, rtol=0.05)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a gray ResNet-50 with seeded weights, as the rule `convert` makes it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    files = {name: folder / name for name in ("backbone", "certificate")}
    options = {"format": "torchvision", "architecture": "resnet50+gray", "weights": "seeded",
               "seed": 1, "normalisation": "none"}  # fmt: skip
    words = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    convert.main(["--checkpoint", "seeded", "--options", json.dumps(options), *words])
    return files


def test_the_published_trunk_is_read_trained_saved_and_rebuilt(
    checkpoint: dict[str, Path], hospitals: list[Hospital], tmp_path: Path
) -> None:
    words = training_words(
        hospitals, tmp_path, "resnet_asl", network={"trunk": "resnet"}, training={"epochs": 1},
        **checkpoint,
    )  # fmt: skip
    train.main(words)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["architecture"] == "resnet50+gray"
    before = load_file(checkpoint["backbone"])
    after = load_file(tmp_path / "model.safetensors")
    same = {name: np.array_equal(after[f"trunk.{name}"], before[name])
            for name in before if f"trunk.{name}" in after}  # fmt: skip
    frozen = ("conv1", "bn1", "layer1")
    for name, is_same in same.items():
        is_norm = ".bn" in name or ".downsample.1." in name
        assert is_same == (name.startswith(frozen) or is_norm), name
    assert len(same) > 200
    tables = scored(tmp_path, hospitals)
    assert np.isfinite(tables["OOD"].filter(like="score_")).all(axis=None)


def test_other_trunks_and_other_weights_are_refused(
    checkpoint: dict[str, Path], hospitals: list[Hospital], tmp_path: Path
) -> None:
    words = training_words(
        hospitals, tmp_path, "resnet_asl", network={"trunk": "resnet"}, **checkpoint
    )
    content = checkpoint["backbone"].read_bytes()
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(content[:-4] + bytes(4))
    with pytest.raises(InputError, match="certificate"):
        train.main([*words, "--backbone", str(changed)])


def test_workers_that_load_ahead_change_nothing(hospitals: list[Hospital], tmp_path: Path) -> None:
    for workers in (0, 1):
        train.main(training_words(hospitals, tmp_path / str(workers), "baseline", workers=workers))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("0", "1"))
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (1, r"train_\w+ is not finite at step 0 "),
        (3, "a validation logit of the intervened head is not finite at step 2 "),
    ],
)
def test_a_loss_that_is_not_a_number_ends_the_training_with_its_step(
    at: int, message: str, hospitals: list[Hospital], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real, calls = train.follow_cycle, 0

    def follow_cycle(optimiser: Any, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            for tensor in optimiser.param_groups[0]["params"]:
                tensor.data.fill_(float("nan"))
        real(optimiser, *arguments)

    monkeypatch.setattr(train, "follow_cycle", follow_cycle)
    one = {"epochs": 1} if at == 3 else {}
    every_update = {"save-minutes": 0} if at == 1 else {}
    words = training_words(hospitals, tmp_path, training=one, **every_update)
    with pytest.raises(TrainingFailure, match=message):
        train.main(words)
    assert not (tmp_path / "model.safetensors").exists()
