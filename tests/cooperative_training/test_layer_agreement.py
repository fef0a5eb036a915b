"""Layer agreement of the networks in series, up a ladder of artefacts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.cooperative_training.archive import training_words, write_archive
from workflow_scripts.cooperative_training import layer_agreement, train_segmenter
from workflow_scripts.cooperative_training.inference import load_segmenter
from workflow_scripts.cooperative_training.severity_scores import Level, corrupted
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.metrics.segmentation import dice, dice_per_class
from workflow_scripts.metrics.uncertainty import aula_share
from workflow_scripts.problems import InputError


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("agreement")
    paths = write_archive(folder)
    train_segmenter.main(training_words(paths, folder, "cooperative", epochs=2))
    paths |= {"weights": folder / "weights.safetensors", "training": folder / "training.json"}
    paths["out"] = folder / "predictions.parquet"
    layer_agreement.main(words(paths))
    return paths


def words(paths: dict[str, Path], **more: object) -> list[str]:
    given: dict[str, object] = {
        **{name: paths[name] for name in ("weights", "training", "images", "masks", "index")},
        "out": paths["out"], "manifest": paths["manifest.parquet"],
        "draws": 2, "seed": 3, "corrections": 3, **more,
    }  # fmt: skip
    return ["--levels", "0.5", "1.0", *(w for k, v in given.items() for w in (f"--{k}", str(v)))]


def test_every_test_volume_stands_on_every_rung(scored: dict[str, Path]) -> None:
    table = pd.read_parquet(scored["out"])
    assert set(table["patient_id"]) == {"004"}  # the only test patient
    assert len(table) == 2 * (1 + 4 * 2 * 2)  # frames; no artefact, then kinds, levels, draws
    assert not table.duplicated(["image_id", "corruption", "severity", "draw"]).any()
    for name in ("agreement_1", "agreement_2", "agreement_3", "aula"):
        assert table[f"score_{name}"].between(0, 1).all()
    assert table["score_entropy"].between(0, np.log(4) + 1e-9).all()


def test_numbers_are_those_of_the_segmentations(scored: dict[str, Path]) -> None:
    table = pd.read_parquet(scored["out"])
    segmenter = load_segmenter(scored["weights"], scored["training"], torch.device("cpu"))
    store = VolumeStore(scored["images"], scored["masks"], scored["index"])
    row = table[(table["corruption"] == "RandomBias") & (table["draw"] == 1)].iloc[0]
    volume = store.volume(row["image_id"])
    image = corrupted(
        volume.image, row["image_id"], Level("RandomBias", row["severity"], 1), seed=3
    )
    found = segmenter.segment(image, range(4), rescales_slices=False)
    pairs = [(found[number] > 0, found[number + 1] > 0) for number in range(3)]
    agreements = [dice(*pair, both_empty=0.0) for pair in pairs]
    np.testing.assert_allclose(
        [row[f"score_agreement_{number}"] for number in (1, 2, 3)], agreements
    )
    assert row["score_aula"] == pytest.approx(aula_share(np.array(agreements)))
    assert row["score_dice"] == pytest.approx(np.nanmean(dice_per_class(volume.mask, found[1], 4)))


def test_entropy_is_the_fast_networks_alone(scored: dict[str, Path]) -> None:
    segmenter = load_segmenter(scored["weights"], scored["training"], torch.device("cpu"))
    image = np.random.default_rng(0).random((12, 16, 16))  # more slices than one chunk holds
    with torch.inference_mode():
        logits = segmenter.networks.segment(torch.from_numpy(image.astype(np.float32))[:, None])
        expected = torch.distributions.Categorical(logits=logits.movedim(1, -1)).entropy().mean()
    assert segmenter.entropy(image, rescales_slices=False) == pytest.approx(float(expected), 1e-5)


def test_what_the_file_says_of_itself_fits_the_table(scored: dict[str, Path]) -> None:
    from workflow_scripts.report.predictions import read_headers

    (header,) = read_headers([scored["out"]])
    assert (header.kind, header.table) == ("ladder", "cooperative_training_agreement")
    assert header.row.endswith("FTN+STN")
    assert header.data == "phantom"
    assert json.loads(scored["training"].read_text())["method"] == "cooperative"


def test_too_few_corrections_have_no_area(scored: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="corrections from 2"):
        layer_agreement.main(words(scored, corrections=1))
