"""Every step of the analyses names all files that are not there, before it computes anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer import (
    cka,
    finetune,
    finetune_search,
    invariance,
    multi_view,
    perceptual,
    perceptual_csv,
    reconstruction,
    reconstruction_figure,
    saliency,
    saliency_figure,
    views,
    whitening,
)

CHECKPOINT = ["--backbone", "b.safetensors", "--certificate", "b.json"]
DATA = ["--manifest", "m.parquet", "--card", "c.json"]
IMAGES = [*CHECKPOINT, *DATA, "--root", ".", "--protocol", "corrected", "--state", "s"]
TASK = [*CHECKPOINT, *DATA, "--root", ".", "--leak-free", "l.json", "--store", "s.npy",
        "--index", "s.parquet", "--protocol", "corrected", "--state", "s",
        "--out", "o"]  # fmt: skip
STEPS: list[tuple[Callable[[Sequence[str] | None], None], list[str], list[str]]] = [
    (finetune.main, ["--candidates", "0.json", *TASK], ["0.json"]),
    (finetune.main, TASK, ["b.safetensors"]),
    (finetune_search.main, [*TASK, "--candidate", "0"], ["b.safetensors"]),
    (saliency.main, [*IMAGES, "--out", "o", "--maps", "o"], ["b.safetensors", "m.parquet"]),
    (reconstruction.main, [*IMAGES, "--out", "o", "--image-out", "i", "--original-out", "j"],
     ["b.json", "c.json"]),
    (views.main, [*DATA, "--store-index", "s.parquet", "--root", ".", "--transform", "h_flip",
                  "--protocol", "released", "--clean", "o", "--views", "v", "--index", "i"],
     ["m.parquet", "c.json", "s.parquet"]),
    (whitening.main, ["--features", "f.npz", "--manifest", "m.parquet", "--protocol", "released",
                      "--out", "o"], ["f.npz", "m.parquet"]),
    (invariance.main, [*CHECKPOINT, "--clean", "x.npy", "--views", "v.npy", "--index", "i.parquet",
                       "--whitening", "w.npz", "--protocol", "released", "--out", "o"],
     ["b.safetensors", "x.npy", "v.npy", "i.parquet"]),
    (multi_view.main, [*DATA, "--certificate", "b.json", "--features", "f.npz", "--whitening",
                       "w.npz", "--protocol", "released", "--out", "o"], ["f.npz"]),
    (cka.main, ["--features", "f.npz", "g.npz", *DATA, "--out", "o"], ["f.npz", "g.npz", "c.json"]),
    (perceptual.main, ["--originals", "p.png", "--reconstructions", "q.png", "--certificates",
                       "b.json", "--card", "c.json", "--trunks", "1", "2", "3",
                       "--trunk-certificates", "4", "5", "6", "--protocol", "released",
                       "--out", "o"], ["b.json", "1", "6", "c.json"]),
    (perceptual_csv.main, ["--predictions", "p.parquet", "--metric", "lpips", "--out", "o"],
     ["p.parquet"]),
    (saliency_figure.main, ["--maps", "m.npz", "--out", "o.png"], ["m.npz"]),
    (reconstruction_figure.main, ["--losses", "r.json", "--out", "o.png"], ["r.json"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "words", "named"), STEPS, ids=lambda one: getattr(one, "__module__", str(one)[:40])
)
def test_missing_files_are_named(
    step: Callable[[Sequence[str] | None], None],
    words: list[str],
    named: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refusal:
        step(words)
    assert {problem.where for problem in refusal.value.problems} >= set(named)
    assert all("a file" in problem.expected for problem in refusal.value.problems)
    assert not list(tmp_path.iterdir())


def test_zero_versions_are_refused_and_not_taken_for_the_default() -> None:
    words = STEPS[5][1]
    with pytest.raises(InputError, match=r"transform translation: .*k = 0"):
        views.main([*words, "--transform", "translation", "--k", "0"])


def test_images_too_small_for_a_feature_map_are_refused() -> None:
    words = STEPS[4][1]
    with pytest.raises(InputError, match="--image-size: expected at least 32 px, found 8"):
        reconstruction.main([*words, "--image-size", "8"])
