from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from tests.ssl_transfer.training_files import TrainingFiles, die, killed, make_files
from workflow_scripts.problems import InputError
from workflow_scripts.report.cells import Resampling
from workflow_scripts.report.kinds.classification import table_values
from workflow_scripts.report.predictions import read_headers
from workflow_scripts.ssl_transfer import finetune, finetune_loop, finetune_search
from workflow_scripts.ssl_transfer.finetune_grid import (
    Candidate,
    best_candidate,
    n_candidates,
    search_grid,
)
from workflow_scripts.ssl_transfer.finetune_loop import rule_of, score
from workflow_scripts.ssl_transfer.training_protocols import FINETUNE
from workflow_scripts.training.schedules import cosine_to_zero, scale_learning_rates
from workflow_scripts.training.selection import Selection

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
SHORT = ("--steps", "5", "--batch-size", "6", "--check-every", "2", "--save-minutes", "0")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TrainingFiles:
    torch.set_num_threads(1)
    return make_files(tmp_path_factory.mktemp("finetune"))


def run(
    files: TrainingFiles, out: Path, *more: str, protocol: str = "corrected", decoded: bool = True
) -> dict[str, Any]:
    """Fine-tune and return the metadata of the predictions, with the scores."""
    words = [*files.task(decoded), "--protocol", protocol, "--state", str(out / "state")]
    finetune.main([*words, *SHORT, *more, "--out", str(out / "predictions.parquet")])
    return read(out / "predictions.parquet")


def read(path: Path) -> dict[str, Any]:
    table = pq.read_table(path)
    content = json.loads(table.schema.metadata[b"steadfast"])
    content["scores"] = np.stack([table[f"score_{i}"].to_numpy() for i in range(2)], axis=1)
    content["ids"] = table["image_id"].to_pylist()
    return dict(content)


@pytest.mark.parametrize("case", GOLDEN["early_stopping"])
def test_early_stopping_is_the_golden_one(case: dict[str, Any]) -> None:
    selection = Selection(rule_of("accuracy", FINETUNE["released"], case["patience"]))
    checks = 0
    for value in case["val_accs_at_each_check"]:
        checks += 1
        selection.observe(value, case["check_every"] * checks)
        if selection.should_stop or checks * case["check_every"] >= case["steps"]:
            break
    assert checks == case["n_checks_done"]
    assert checks * case["check_every"] == case["train_steps_done"]


def test_an_undefined_metric_resets_the_patience_in_released_only() -> None:
    stopped_at = {}
    for protocol, options in FINETUNE.items():
        selection = Selection(rule_of("auc", options, 2))
        values = iter([0.9, 0.8, math.nan, 0.2, 0.1, 0.0])
        while not selection.should_stop:
            selection.observe(next(values), stopped_at.get(protocol, 0))
            stopped_at[protocol] = stopped_at.get(protocol, 0) + 1
    assert stopped_at == {"released": 6, "corrected": 3}
    search = Selection(rule_of("auc", FINETUNE["released"], 0))
    for step, value in enumerate([0.9, math.nan, 0.1]):
        search.observe(value, step)
    assert (search.best, search.best_step) == (0.9, 0)


@pytest.mark.parametrize("size", [2, 3])
def test_search_grid_is_the_golden_one(size: int) -> None:
    found = search_grid(size)
    assert len(found) == n_candidates(size)
    np.testing.assert_allclose(found, GOLDEN["finetune_search_grid"][str(size)], rtol=2e-7)


def test_steps_of_sgd_and_cosine_are_the_golden_ones() -> None:
    golden = GOLDEN["sgd_nesterov_cosine"]
    weight = nn.Parameter(torch.tensor(golden["init"]))
    optimiser = torch.optim.SGD(
        [weight], lr=golden["lr"], momentum=finetune_loop.MOMENTUM,
        weight_decay=golden["weight_decay"], nesterov=True,
    )  # fmt: skip
    for step, expected in enumerate(golden["steps"]):
        scale_learning_rates(optimiser, cosine_to_zero(step, golden["T_max"]))
        assert optimiser.param_groups[0]["lr"] == pytest.approx(expected["lr_used"])
        weight.grad = torch.tensor(expected["grad"])
        optimiser.step()
        np.testing.assert_allclose(weight.detach(), expected["param_after"], atol=1e-6)
    for step, rate in GOLDEN["cosine_lr_5000"]["lr_used_at_step"].items():
        assert 0.01 * cosine_to_zero(int(step), 5000) == pytest.approx(rate, rel=1e-4)


def test_the_first_best_candidate_wins_and_an_undefined_one_never_does() -> None:
    found = [Candidate(0.1, 0.0, None), Candidate(0.1, 1.0, 0.5), Candidate(0.01, 0.0, 0.5)]
    assert best_candidate(found) == found[1]
    assert best_candidate(found[:1]) == found[0]


@pytest.mark.parametrize("case", GOLDEN["metrics"])
def test_selecting_metrics_are_the_golden_ones(case: dict[str, Any]) -> None:
    n_classes = max(*case["pred"], *case["label"]) + 1
    logits = np.eye(max(n_classes, 2), dtype=np.float32)[case["pred"]]
    truth = np.array(case["label"])
    released = FINETUNE["released"]
    assert score("accuracy", released, truth, logits) == pytest.approx(case["accuracy"])
    mean = score("mean_per_class_accuracy", released, truth, logits)
    expected = math.nan if case["mean_per_class"] is None else case["mean_per_class"]
    assert mean == pytest.approx(expected, nan_ok=True)
    if "auc_from_hard_predictions" in case:
        auc = score("auc", released, truth, logits)
        assert auc == pytest.approx(case["auc_from_hard_predictions"])


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(InputError, match="accuracy, mean_per_class_accuracy or auc"):
        score("dice", FINETUNE["released"], np.array([0]), np.zeros((1, 2), np.float32))


def test_predictions_say_what_was_done_and_make_a_table(
    files: TrainingFiles, tmp_path: Path
) -> None:
    found = run(files, tmp_path, "--history", str(tmp_path / "history.csv"))
    assert found["ids"] == [f"{i:02d}.png" for i in (8, 9, 18, 19, 28, 29)]
    assert found["data"] == "phantom"
    assert found["kind"] == "classification"
    assert found["options"]["keep"] == "best"
    told = found["diagnostics"]
    assert told["updates"] == 5
    assert told["training_images"] + told["validation_images"] == 24
    checks = [row["step"] for row in told["history"] if row["metric"] == "val_accuracy"]
    assert checks == [2, 4, 5]
    assert told["best_step"] in checks
    assert not list((tmp_path / "state").glob("state-*"))  # nothing is left to go on with
    assert "train_loss" in (tmp_path / "history.csv").read_text()
    (cell,) = [(header,) for header in read_headers([tmp_path / "predictions.parquet"])]
    values = {value.metric: value for value in table_values([cell], Resampling(0, 100), jobs=1)}
    assert values.keys() == {"accuracy", "mean_per_class_accuracy", "auc", "chance"}
    assert values["accuracy"].n == 6


def test_killed_anywhere_it_ends_bit_equal(
    files: TrainingFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(files, tmp_path / "whole")
    update: Callable[..., None] = finetune_loop.update

    def killed_at(step: int) -> Callable[..., None]:
        def work(setting: Any, pieces: Any, number: int) -> None:
            if number == step:
                die()
            update(setting, pieces, number)

        return work

    for step in (1, 3):  # between two checks, and after one: best weights and patience survive
        monkeypatch.setattr(finetune_loop, "update", killed_at(step))
        killed(lambda: run(files, tmp_path / "parts"))
        assert (tmp_path / f"parts/state/state-{step:08d}.pt").exists()
    monkeypatch.setattr(finetune_loop, "update", update)
    resumed = run(files, tmp_path / "parts")
    assert np.array_equal(resumed["scores"], whole["scores"])
    assert resumed["diagnostics"] == whole["diagnostics"]


def test_crops_of_the_archive_train_the_same_network(files: TrainingFiles, tmp_path: Path) -> None:
    stored = run(files, tmp_path / "stored")
    archive = run(files, tmp_path / "archive", decoded=False)
    assert np.array_equal(stored["scores"], archive["scores"])


def test_corrected_tests_the_best_weights_and_released_the_last(
    files: TrainingFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.9, 0.1, 0.1] * 3)
    monkeypatch.setattr(finetune_loop, "score", lambda *_: next(values))
    keep: list[str] = []
    restore = finetune_loop.KeptWeights.restore
    monkeypatch.setattr(
        finetune_loop.KeptWeights, "restore",
        lambda self, network: (keep.append("best"), restore(self, network)),
    )  # fmt: skip
    best = run(files, tmp_path / "best")
    assert keep == ["best"]
    assert best["diagnostics"]["best_step"] == 2
    # the same training cut off at the best step tests the same weights: same schedule, no search
    last = run(files, tmp_path / "last", protocol="released")
    assert keep == ["best"]
    assert last["options"]["keep"] == "last"
    assert not np.array_equal(best["scores"], last["scores"])


def test_early_stopping_ends_the_training(
    files: TrainingFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.9, 0.1])
    monkeypatch.setattr(finetune_loop, "score", lambda *_: next(values))
    found = run(files, tmp_path, "--patience", "1")
    assert found["diagnostics"]["updates"] == 4


def test_without_early_stopping_the_validation_images_train(
    files: TrainingFiles, tmp_path: Path
) -> None:
    found = run(files, tmp_path, "--patience", "0", "--no-augment")
    told = found["diagnostics"]
    assert (told["training_images"], told["validation_images"]) == (24, 0)
    assert told["best_validation"] is None


def test_a_search_gives_rate_and_penalty(files: TrainingFiles, tmp_path: Path) -> None:
    paths = []
    for number in (0, 4):
        out = tmp_path / f"{number}.json"
        words = [*files.task(), "--protocol", "corrected", "--state", str(tmp_path / out.stem)]
        options = ["--grid-size", "2", "--candidate", str(number), "--out", str(out)]
        finetune_search.main([*words, *SHORT, *options])
        paths.append(out)
    candidates = [Candidate(**json.loads(path.read_text())) for path in paths]
    assert [(one.lr, one.weight_decay) for one in candidates] == [
        search_grid(2)[number] for number in (0, 4)
    ]
    found = run(files, tmp_path, "--candidates", *map(str, paths))
    assert found["options"]["lr"] == best_candidate(candidates).lr
    assert len(found["diagnostics"]["search"]) == 2


def test_bad_input_is_refused(files: TrainingFiles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--steps: expected at least 1"):
        run(files, tmp_path, "--steps", "0")
    with pytest.raises(InputError, match="--lr and --weight-decay"):
        run(files, tmp_path, "--lr", "-1")
    words = [*files.task(), "--protocol", "corrected", "--state", str(tmp_path / "s")]
    with pytest.raises(InputError, match="0 to 5"):
        finetune_search.main([*words, "--candidate", "6", "--out", str(tmp_path / "x.json")])


def test_pixels_of_another_file_are_refused(files: TrainingFiles, tmp_path: Path) -> None:
    index = pq.read_table(files.path("images.parquet"))
    other = index.set_column(1, "sha256", [["0" * 64] * len(index)])
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(InputError, match="its pixels, found none or of another file"):
        run(files, tmp_path, "--pixel-index", str(tmp_path / "other.parquet"))


def test_a_store_of_other_files_is_refused(files: TrainingFiles, tmp_path: Path) -> None:
    index = pq.read_table(files.path("store.parquet"))
    other = index.set_column(1, "sha256", [["0" * 64] * len(index)])
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(InputError, match="build the store again"):
        run(files, tmp_path, "--index", str(tmp_path / "other.parquet"))
