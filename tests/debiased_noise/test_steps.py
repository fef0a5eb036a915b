"""The steps on a tiny world: what changes, what must not, what is refused, what survives a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.debiased_noise.conftest import Files
from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise import (
    attribute_classifier,
    black_box,
    disease_head,
    embed,
    gaussian_edit,
    gezo,
    order,
    white_box,
)
from workflow_scripts.debiased_noise.embeddings import read_embeddings, write_embeddings
from workflow_scripts.debiased_noise.heads import read_head
from workflow_scripts.debiased_noise.noise_edit import norms, read_edit, write_edit
from workflow_scripts.problems import InputError
from workflow_scripts.report.predictions import read_case_columns, read_headers
from workflow_scripts.training.failures import SavedNotFinished

GEZO = ("--updates", "4", "--sampled-steps", "3", "--init-step", "0.02", "--seed", "5")


def white(files: Files, folder: Path, *more: str, protocol: str = "corrected") -> Path:
    out = folder / "noise_edit.safetensors"
    white_box.main(
        [
            *files.model, *files.edit_inputs, "--protocol", protocol, "--epochs", "3",
            "--lr", "0.01", "--micro-batch", "8", "--state", str(folder / "state"),
            "--out", str(out), *more,
        ]
    )  # fmt: skip
    return out


def black(files: Files, folder: Path, form: str, *more: str) -> Path:
    out = folder / "noise_edit.safetensors"
    black_box.main(
        [
            *files.edit_inputs, "--form", form, *GEZO, "--state", str(folder / "state"),
            "--out", str(out), *more,
        ]
    )  # fmt: skip
    return out


def head(files: Files, folder: Path, method: str, *more: str) -> Path:
    out = folder / f"{method}.parquet"
    disease_head.main(
        [
            *files.embeddings, *files.cohort, "--protocol", "corrected", "--method", method,
            "--read-out", "tiny", "--frozen", files.classifier, "--frozen-embeddings",
            files.path("embeddings.npz"), "--retrained", files.classifier, "--epochs", "30",
            "--lr", "0.02", "--images-per-batch", "16", "--state", str(folder / f"state-{method}"),
            "--out", str(out), *more,
        ]
    )  # fmt: skip
    return out


def embedded(files: Files, edit: Path, out: Path) -> Path:
    card = files.path("card.json")
    words = ["--card", card, "--edit", str(edit), "--out", str(out)]
    embed.main([*files.model, *files.images, *words])
    return out


def test_attribute_classifier_finds_the_attribute_and_says_so(files: Files) -> None:
    _, card = read_head(Path(files.classifier))
    assert card["found"]["test"]["accuracy"] > 0.7
    assert card["found"]["test"]["images"] == 24
    assert card["attribute"] == "sex"
    assert card["phantom"] is True


def test_white_box_edit_misleads_the_frozen_classifier_on_held_out_images(
    files: Files, tmp_path: Path
) -> None:
    backbone = Path(files.path("backbone.safetensors")).read_bytes()
    classifier = Path(files.classifier).read_bytes()
    edit = white(files, tmp_path)
    noise, card = read_edit(edit, 32)
    assert card["losses"][-1] < card["losses"][0]
    assert 0 < norms(noise)["largest"] <= 0.01 * 9 * 1.2  # nine Adam steps of at most about lr
    assert Path(files.path("backbone.safetensors")).read_bytes() == backbone
    assert Path(files.classifier).read_bytes() == classifier
    before = read_embeddings(Path(files.path("embeddings.npz")))
    after = read_embeddings(embedded(files, edit, tmp_path / "edited.npz"))
    table = pd.read_parquet(files.path("manifest.parquet")).set_index("image_id")
    table = table.loc[list(before.image_id)]
    test = (table["split"] == "test").to_numpy()
    sex = torch.from_numpy((table["sex"] == "M").to_numpy().astype(np.int64)[test])
    frozen, _ = read_head(Path(files.classifier))
    losses = [
        float(torch.nn.functional.cross_entropy(frozen.logits(torch.from_numpy(v[test])), sex))
        for v in (before.values, after.values)
    ]
    assert losses[1] > losses[0] + 0.1


def test_zero_noise_gives_the_head_of_erm_to_the_last_bit(files: Files, tmp_path: Path) -> None:
    edit = tmp_path / "zero.safetensors"
    card = {"method": "white_box", "attribute": "sex", "phantom": True}
    write_edit(edit, np.zeros((32, 32), np.float32), card)
    edited = embedded(files, edit, tmp_path / "edited.npz")
    unedited = read_embeddings(Path(files.path("embeddings.npz")))
    np.testing.assert_array_equal(read_embeddings(edited).values, unedited.values)
    retrained = tmp_path / "retrained.safetensors"
    attribute_classifier.main(
        [
            *files.cohort, "--embeddings", str(edited), "--edit", str(edit), "--protocol",
            "corrected", "--epochs", "2", "--images-per-batch", "16", "--state",
            str(tmp_path / "r"), "--out", str(retrained),
        ]
    )  # fmt: skip
    words = ("--embeddings", str(edited), "--frozen-embeddings", str(edited))
    words += ("--edit", str(edit), "--retrained", str(retrained))
    erm, dne = head(files, tmp_path, "erm"), head(files, tmp_path, "white_box", *words)
    one, other = (read_case_columns(read_headers([path])[0]) for path in (erm, dne))
    for name in ("score_no_finding", "score_disease", "truth", "group_sex"):
        np.testing.assert_array_equal(one[name], other[name])


def test_predictions_hold_every_group_and_what_the_attribute_classifiers_say(
    files: Files, tmp_path: Path
) -> None:
    header = read_headers([head(files, tmp_path, "erm")])[0]
    columns = read_case_columns(header)
    assert header.kind == "fairness"
    assert (header.row, header.column, header.data) == ("ERM, tiny", "Edema, sex", "phantom")
    assert len(columns["truth"]) == 24
    assert np.isnan(columns["group_race"]).all()  # nobody's race is known
    assert set(columns["group_age_years"]) == {0.0, 1.0}
    right = (columns["score_disease"] > columns["score_no_finding"]) == columns["truth"]
    assert right.mean() > 0.6
    assert np.isfinite(columns["score_attribute_frozen"]).all()


def test_balancing_changes_the_head_and_nothing_else_about_the_run(
    files: Files, tmp_path: Path
) -> None:
    paths = [head(files, tmp_path, name) for name in ("erm", "group_balanced")]
    erm, balanced = (read_case_columns(read_headers([path])[0]) for path in paths)
    assert not np.array_equal(erm["score_disease"], balanced["score_disease"])
    assert erm["image_id"].tolist() == balanced["image_id"].tolist()


def test_released_heads_look_at_the_network_anew_and_need_it(files: Files, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--protocol released"):
        head(files, tmp_path, "erm", "--protocol", "released")
    live = ("--protocol", "released", *files.model, *files.images, "--epochs", "2")
    columns = read_case_columns(read_headers([head(files, tmp_path, "erm", *live)])[0])
    assert np.isfinite(columns["score_disease"]).all()


def test_control_has_the_norm_of_the_learned_edit(files: Files, tmp_path: Path) -> None:
    learned = white(files, tmp_path)
    out = tmp_path / "gaussian.safetensors"
    gaussian_edit.main(["--like", str(learned), "--seed", "1", "--out", str(out)])
    noise, card = read_edit(out)
    assert norms(noise)["l2_norm"] == pytest.approx(norms(read_edit(learned)[0])["l2_norm"])
    assert card["method"] == "gaussian_white_box"
    assert not np.array_equal(noise, read_edit(learned)[0])


def test_released_protocol_restarts_adam_each_epoch(files: Files, tmp_path: Path) -> None:
    one = read_edit(white(files, tmp_path / "a", protocol="released"))[0]
    other = read_edit(white(files, tmp_path / "b", protocol="corrected"))[0]
    assert np.abs(one - other).max() > 1e-4


def test_micro_batches_give_the_same_edit(files: Files, tmp_path: Path) -> None:
    one = read_edit(white(files, tmp_path / "a", "--micro-batch", "16"))[0]
    other = read_edit(white(files, tmp_path / "b", "--micro-batch", "5"))[0]
    np.testing.assert_allclose(one, other, atol=2e-4)  # float sums in another order, through Adam


@pytest.mark.parametrize("form", ["released", "paper"])
def test_black_box_counts_exactly_the_planned_queries(
    files: Files, tmp_path: Path, form: gezo.Form
) -> None:
    _, card = read_edit(black(files, tmp_path, form, *files.model))
    signs = 1 if form == "released" else 2
    assert card["image_queries"] == 4 * 3 * 2 * 16 * signs == card["image_queries_planned"]
    assert card["image_queries_of_the_released_code"] == 4 * 3 * 2 * 16 * 2
    assert len(card["course"]) == 4


def test_black_box_never_asks_for_a_gradient(files: Files, tmp_path: Path) -> None:
    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=1).flatten(1)[:, :64]

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            raise AssertionError("a gradient was asked for")

    class Double:
        def embed(self, images: torch.Tensor) -> torch.Tensor:
            return Forward.apply(images.requires_grad_())

    from workflow_scripts.debiased_noise.objective import Head, Weights

    head_of = Head(torch.ones(2, 64), torch.zeros(2))
    inputs = type("Inputs", (), {"head": head_of})()
    images = (torch.rand(4, 3, 8, 8),) * 2
    codes = (torch.tensor([0, 1, 0, 1]),) * 2
    batches = black_box.Batches(Double(), inputs, Weights(), images, codes)
    zeros = torch.zeros(8, 8)
    position = gezo.Position(zeros, zeros, 0.1)
    update = gezo.paper_update(position, [zeros + 1], batches.loss_of, gezo.Settings())
    assert update.position.noise.abs().max() > 0


def interrupted(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int
) -> Callable[[], None]:
    """Let the call number `call` of a module's function act as a kill would: out of nowhere."""
    real, calls = getattr(module, name), [0]

    def counted(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, counted)
    return lambda: monkeypatch.setattr(module, name, real)


OFTEN = ("--save-minutes", "0.000001")


def test_white_box_goes_on_after_a_kill_to_the_same_edit(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_edit(white(files, tmp_path / "whole"))
    repair = interrupted(monkeypatch, white_box, "accumulate_gradient", 6)
    with pytest.raises(KeyboardInterrupt):
        white(files, tmp_path / "killed", *OFTEN)
    repair()
    resumed = read_edit(white(files, tmp_path / "killed", *OFTEN))
    np.testing.assert_array_equal(resumed[0], whole[0])
    assert resumed[1]["losses"] == whole[1]["losses"]


def test_search_goes_on_after_a_kill_to_the_same_edit(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_edit(black(files, tmp_path / "whole", "paper", *files.model))
    repair = interrupted(monkeypatch, black_box, "batches_of", 3)
    with pytest.raises(KeyboardInterrupt):
        black(files, tmp_path / "killed", "paper", *files.model, *OFTEN)
    repair()
    resumed = read_edit(black(files, tmp_path / "killed", "paper", *files.model, *OFTEN))
    np.testing.assert_array_equal(resumed[0], whole[0])
    assert resumed[1]["course"] == whole[1]["course"]
    assert resumed[1]["image_queries"] == whole[1]["image_queries"]


def test_head_goes_on_after_a_kill_to_the_same_predictions(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = head(files, tmp_path, "erm").read_bytes()
    real, calls = order.IndexBatches.next_batch, [0]

    def counted(batches: order.IndexBatches) -> Any:
        calls[0] += 1
        if calls[0] == 40:
            raise KeyboardInterrupt
        return real(batches)

    monkeypatch.setattr(order.IndexBatches, "next_batch", counted)
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        head(files, folder, "erm", *OFTEN)
    monkeypatch.setattr(order.IndexBatches, "next_batch", real)
    assert list((folder / "state-erm").glob("state-*.json"))
    course = folder / "course.parquet"
    assert head(files, folder, "erm", "--course", str(course), *OFTEN).read_bytes() == whole
    columns = read_case_columns(read_headers([course])[0])
    # epochs before the kill are still there, and the last is the result
    epochs = [name for name in columns if name.startswith("score_disease_epoch_")]
    assert epochs == [f"score_disease_epoch_{epoch}" for epoch in (0, 10, 20, 29)]
    last = read_case_columns(read_headers([folder / "erm.parquet"])[0])
    np.testing.assert_array_equal(columns["score_disease_epoch_29"], last["score_disease"])
    assert columns["train_loss_epoch_29"][0] == last["train_loss"][0]
    assert columns["train_loss_epoch_29"][0] < columns["train_loss_epoch_0"][0]


def test_a_budget_that_cannot_be_enough_is_refused_before_any_query(
    files: Files, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="at least 768 images"):
        black(files, tmp_path, "paper", *files.model, "--query-budget", "767")


def test_a_budget_spent_on_a_lost_attempt_stops_the_search_and_a_larger_one_goes_on(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workflow_scripts.debiased_noise.queries import CountedBox

    real, calls = CountedBox.embed, [0]

    def wasteful(box: CountedBox, images: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 20:
            box._queries.spend(len(images))  # a retry that the service billed
        return real(box, images)

    monkeypatch.setattr(CountedBox, "embed", wasteful)
    with pytest.raises(SystemExit, match="larger --query-budget") as end:
        black(files, tmp_path, "paper", *files.model, "--query-budget", "768")
    assert not isinstance(end.value, SavedNotFinished)
    _, card = read_edit(black(files, tmp_path, "paper", *files.model, "--query-budget", "2000"))
    assert card["image_queries"] > 768
    whole = read_edit(black(files, tmp_path / "whole", "paper", *files.model))
    np.testing.assert_array_equal(read_edit(tmp_path / "noise_edit.safetensors")[0], whole[0])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--attribute", "race"], "with and without the attribute"),
        (["--attribute", "age_years"], "a classifier of age_years"),
        (["--images-per-batch", "40"], "at least 2 batches of 40"),
        (["--world-size", "2"], "one process"),
        (["--precision", "bf16"], "fp32 or tf32"),
        (["--classifier", "missing.safetensors"], "expected a file"),
        (["--api", "http://127.0.0.1:1"], "either --backbone and --certificate, or --api"),
    ],
)
def test_bad_input_is_refused_with_its_reason(
    files: Files, tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *files.model, *files.edit_inputs, "--form", "paper", "--state", str(tmp_path / "s"),
        "--out", str(tmp_path / "e.safetensors"), *words,
    ]  # fmt: skip
    assert run(black_box.main, arguments) == 1
    assert told in capsys.readouterr().err


def test_embeddings_of_another_edit_are_refused(files: Files, tmp_path: Path) -> None:
    edit = tmp_path / "noise.safetensors"
    write_edit(edit, np.ones((32, 32), np.float32), {"method": "white_box", "phantom": True})
    with pytest.raises(InputError, match="embeddings of edit"):
        head(files, tmp_path, "white_box", "--edit", str(edit))
    with pytest.raises(InputError, match="--edit for an edit's row"):
        head(files, tmp_path, "white_box")


def test_an_edit_of_another_row_or_attribute_is_refused(files: Files, tmp_path: Path) -> None:
    edit, edited = tmp_path / "noise.safetensors", tmp_path / "edited.npz"
    words = ("--edit", str(edit), "--embeddings", str(edited))
    for card, told in (
        ({"method": "gezo_paper", "attribute": "sex"}, "one by gezo_paper against sex"),
        ({"method": "white_box", "attribute": "race"}, "one by white_box against race"),
    ):
        write_edit(edit, np.ones((32, 32), np.float32), {**card, "phantom": True})
        embedded(files, edit, edited)
        with pytest.raises(InputError, match=told):
            head(files, tmp_path, "white_box", *words)


def test_another_attribute_can_be_hidden_and_its_column_says_so(
    files: Files, tmp_path: Path
) -> None:
    classifier = tmp_path / "age.safetensors"
    age = ("--attribute", "age_years")
    attribute_classifier.main(
        [
            *files.embeddings, *files.cohort, *age, "--protocol", "corrected", "--epochs", "2",
            "--images-per-batch", "16", "--state", str(tmp_path / "a"), "--out", str(classifier),
        ]
    )  # fmt: skip
    words = (*age, "--frozen", str(classifier), "--retrained", str(classifier))
    header = read_headers([head(files, tmp_path, "erm", *words)])[0]
    assert header.column == "Edema, age over 60"
    assert set(read_case_columns(header)["hidden"]) == {"age_years"}


def test_seeded_weights_on_real_images_say_so(files: Files, tmp_path: Path) -> None:
    embeddings = read_embeddings(Path(files.path("embeddings.npz")))
    assert embeddings.provenance["pretrained"] is False
    real = {**embeddings.provenance, "phantom": False}
    path = tmp_path / "real.npz"
    write_embeddings(path, embeddings.values, embeddings.image_id, real)
    card = json.loads(Path(files.path("card.json")).read_text()) | {"phantom": False}
    (tmp_path / "card.json").write_text(json.dumps(card))
    words = ("--embeddings", str(path), "--frozen-embeddings", str(path))
    words += ("--card", str(tmp_path / "card.json"))
    header = read_headers([head(files, tmp_path, "erm", *words)])[0]
    assert header.data == "tiny (untrained weights)"


def test_a_split_without_its_own_leak_certificate_is_refused(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = json.loads(Path(files.path("leak_free.json")).read_text())
    certificate["split"]["manifests"] = {"tiny": "0" * 64}
    other = tmp_path / "leak_free.json"
    other.write_text(json.dumps(certificate))
    with pytest.raises(InputError, match="a certificate of"):
        head(files, tmp_path, "erm", "--leak-free", str(other))
