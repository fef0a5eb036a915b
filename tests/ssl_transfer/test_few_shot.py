from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.episodes import EpisodeShape
from workflow_scripts.ssl_transfer.few_shot import draw_episodes, episode_pool, main
from workflow_scripts.ssl_transfer.protocols import FEW_SHOT

EvaluationFiles = Any  # the class in conftest.py, which tests cannot import
Maker = Callable[..., EvaluationFiles]
SMALL = ("--n-support", "3", "--n-query", "2", "--n-episodes", "8")


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    metadata = json.loads(pq.read_schema(path).metadata[b"steadfast"])
    return pd.read_parquet(path), metadata


def released(files: EvaluationFiles) -> EvaluationFiles:
    files.provenance["geometry"] = files.card["geometry_released"]
    return files


def test_one_row_a_query_says_who_was_shown_and_how_it_scored(make_files: Maker) -> None:
    files = make_files()
    main(files.arguments("corrected", *SMALL))
    table, metadata = read(files.folder / "corrected.parquet")
    assert len(table) == 8 * 2 * 2
    assert list(table) == [
        *("image_id", "patient_id", "domain", "split", "sex", "age_years", "race"),
        *("truth", "episode", "score_0", "score_1"),
    ]
    assert table.groupby("episode").truth.apply(list).tolist() == [[0, 0, 1, 1]] * 8
    owner = files.table.set_index("image_id")
    assert (table.patient_id.to_numpy() == owner.loc[table.image_id, "patient_id"]).all()
    assert metadata["kind"] == "episodes"
    assert metadata["metric"] == "accuracy"
    assert (metadata["row"], metadata["column"], metadata["data"]) == ("seeded", "tiny", "tiny")
    assert metadata["options"]["n_support"] == 3
    assert metadata["options"]["geometry"] == "short224"
    assert metadata["diagnostics"]["pool_images"] == 60


def test_printed_line_is_that_of_the_predictions(
    make_files: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    files = released(make_files())
    with caplog.at_level(logging.INFO):
        main(files.arguments("released", *SMALL))
    table, _ = read(files.folder / "released.parquet")
    correct = table[["score_0", "score_1"]].to_numpy().argmax(1) == table.truth
    per_episode = 100 * correct.groupby(table.episode).mean()
    width = 1.96 * per_episode.std(ddof=0) / 8**0.5
    assert caplog.messages == [f"Test Acc = {per_episode.mean():.2f}% +- {width:.2f}%"]


@pytest.mark.parametrize("protocol", ["released", "corrected"])
def test_two_runs_give_identical_files(make_files: Maker, protocol: str) -> None:
    files = make_files()
    if protocol == "released":
        released(files)
    contents = []
    for _ in range(2):
        main(files.arguments(protocol, *SMALL))
        contents.append((files.folder / f"{protocol}.parquet").read_bytes())
    assert contents[0] == contents[1]


def test_corrected_episodes_are_the_same_for_every_checkpoint(make_files: Maker) -> None:
    shown = []
    for architecture in ("resnet50", "vit_tiny"):
        files = make_files()
        files.certificate["architecture"] = files.provenance["architecture"] = architecture
        files.features = files.features[:, : len(architecture) // 2]
        main(files.arguments("corrected", *SMALL))
        shown.append(read(files.folder / "corrected.parquet")[0].image_id.tolist())
    assert shown[0] == shown[1]


def test_released_episodes_depend_on_the_architecture(make_files: Maker) -> None:
    shown = []
    for architecture in ("resnet18", "densenet121"):
        files = released(make_files())
        files.certificate["architecture"] = files.provenance["architecture"] = architecture
        main(files.arguments("released", *SMALL))
        shown.append(read(files.folder / "released.parquet")[0].image_id.tolist())
    assert shown[0] != shown[1]


def test_released_pool_is_train_then_test_in_the_released_order(make_files: Maker) -> None:
    files = released(make_files())
    files.table.loc[5, "split_released"] = "val"  # no part of the released pool
    cases = files.cases("released", FEW_SHOT["released"])
    pool = episode_pool(cases, FEW_SHOT["released"])
    assert pool.part.tolist() == sorted(pool.part, key=["train", "test"].index)
    for _, part in pool.groupby("part"):
        assert part.order_released.is_monotonic_increasing
    assert len(pool) == 59


@pytest.mark.parametrize(("geometry", "kept"), [("short224", 10_001), ("squash224", 12_000)])
def test_released_cap_holds_only_for_the_data_sets_of_the_sub_meta_file(
    make_files: Maker, geometry: str, kept: int
) -> None:
    files = make_files(n_images=12_000)
    files.card["geometry_released"] = geometry
    pool = episode_pool(
        released(files).cases("released", FEW_SHOT["released"]), FEW_SHOT["released"]
    )
    assert len(pool) == kept


def test_a_quarantined_image_draws_no_other_below_the_cap(make_files: Maker) -> None:
    files = make_files(n_images=10_100)
    files.card["geometry_released"] = "short224"
    released(files)
    lost = files.table.order_released.argmin()
    keep = np.arange(10_100) != lost
    files.features, files.image_id = files.features[keep], files.image_id[keep]
    cases = files.cases("released", FEW_SHOT["released"])
    pool = episode_pool(cases, FEW_SHOT["released"])
    assert len(pool) == 10_000
    assert cases.diagnostics["images_quarantined"] == 1


def test_corrected_pool_is_every_image(make_files: Maker) -> None:
    cases = make_files(n_images=10_100).cases("corrected", FEW_SHOT["corrected"])
    assert len(episode_pool(cases, FEW_SHOT["corrected"])) == 10_100


def test_a_class_that_is_too_small_is_named(make_files: Maker) -> None:
    files = released(make_files(n_images=60, n_classes=3))
    with pytest.raises(InputError, match=r"'class 0': expected at least 35 images .* found 20"):
        main(files.arguments("released"))


def test_an_architecture_without_released_draws_is_refused(make_files: Maker) -> None:
    files = released(make_files())
    files.certificate["architecture"] = files.provenance["architecture"] = "vit_tiny"
    with pytest.raises(InputError, match=r"'vit_tiny'.*with --protocol corrected"):
        main(files.arguments("released", *SMALL))
    assert not (files.folder / "released.parquet").exists()


def test_cached_features_give_the_episodes_of_image_by_image_forwards(make_files: Maker) -> None:
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten()
    ).eval()
    files = released(make_files())
    labels = torch.tensor(files.table.label.tolist())
    images = torch.rand(60, 3, 6, 6) + 0.1 * labels[:, None, None, None]
    with torch.inference_mode():
        files.features = network(images).numpy()  # once an image, all in one batch
    main(files.arguments("released", *SMALL))
    table, _ = read(files.folder / "released.parquet")
    shape = EpisodeShape(2, 3, 2, 8)
    cases = files.cases("released", FEW_SHOT["released"])
    pool = episode_pool(cases, FEW_SHOT["released"])
    episodes = draw_episodes(pool, cases, FEW_SHOT["released"], shape, seed=0)
    scores = table[["score_0", "score_1"]].to_numpy().reshape(8, 4, 2)
    for episode in range(8):
        with torch.inference_mode():  # once an image and episode, float32 throughout
            seen = {
                name: network(images[pool.feature_row.to_numpy()[rows[episode].ravel()]])
                for name, rows in (("support", episodes.support), ("query", episodes.query))
            }
        prototypes = seen["support"].reshape(2, 3, -1).mean(1)
        distances = (seen["query"][:, None] - prototypes).square().sum(2)
        np.testing.assert_allclose(-distances, scores[episode], rtol=1e-4)
        np.testing.assert_array_equal(distances.argmin(1), scores[episode].argmax(1))


@pytest.mark.parametrize("step", ["few_shot", "linear"])
def test_a_step_on_features_never_loads_torch(make_files: Maker, step: str) -> None:
    files = make_files()
    more = SMALL if step == "few_shot" else ("--path", str(files.folder / "path.csv"))
    code = (
        f"import sys; from workflow_scripts.ssl_transfer.{step} import main; main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, *files.arguments("corrected", *more)], check=True)
