"""The images of a data set: released index files with none or both targets, unknown attributes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.debiased_noise.conftest import Files
from workflow_scripts.datasets import leaks
from workflow_scripts.debiased_noise.cohort import read_cohort
from workflow_scripts.problems import InputError


def released(files: Files, folder: Path, targets: dict[str, list[float]]) -> argparse.Namespace:
    """Write the tiny data set with two label columns, as released index files give it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pq.read_table(files.path("manifest.parquet"))
    table = source.to_pandas().drop(columns="label")
    for name, values in targets.items():
        table[f"label_{name}"] = np.resize(np.array(values, np.float64), len(table))
    changed = pa.Table.from_pandas(table, preserve_index=False)
    changed = changed.replace_schema_metadata(source.schema.metadata)
    pq.write_table(changed, folder / "manifest.parquet")
    words = ["--manifests", str(folder / "manifest.parquet")]
    leaks.main([*words, "--out", str(folder / "leak_free.json")])
    return argparse.Namespace(
        manifest=folder / "manifest.parquet", card=Path(files.path("card.json")),
        leak_free=folder / "leak_free.json", attribute="sex",
    )  # fmt: skip


def ids(files: Files) -> list[str]:
    found: list[str] = pd.read_parquet(files.path("store.parquet"))["image_id"].tolist()
    return found


def test_rows_with_none_or_both_targets_train_and_are_in_no_subgroup(
    files: Files, tmp_path: Path
) -> None:
    targets = {"No Finding": [1, 0, 0, 1], "Edema": [0, 1, 0, 1]}
    cohort = read_cohort(released(files, tmp_path, targets), ids(files))
    assert cohort.classes == ("No Finding", "Edema")
    assert len(cohort.rows("train")) == 48
    assert len(cohort.rows("train", one_class=True)) == 24
    test = cohort.rows("test", known=True, one_class=True)
    assert set(cohort.targets[test].sum(axis=1)) == {1.0}
    assert cohort.label[:4].tolist() == [0, 1, 0, 0]  # argmax, as in the released code


@pytest.mark.parametrize("bad", [np.nan, -1.0, 0.5])
def test_targets_that_are_neither_0_nor_1_never_reach_a_loss(
    files: Files, tmp_path: Path, bad: float
) -> None:
    given = released(files, tmp_path, {"No Finding": [1, 0], "Edema": [0, bad]})
    with pytest.raises(InputError, match="targets 0 or 1"):
        read_cohort(given, ids(files))


def test_a_disease_before_its_absence_is_refused(files: Files, tmp_path: Path) -> None:
    given = released(files, tmp_path, {"Edema": [0, 1], "No Finding": [1, 0]})
    with pytest.raises(InputError, match=r"healthy class first.*\[No Finding, Edema\]"):
        read_cohort(given, ids(files))
    given.manifest, given.leak_free = (
        Path(files.path(name)) for name in ("manifest.parquet", "leak_free.json")
    )
    card = json.loads(given.card.read_text()) | {"classes": ["Edema", "normal"]}  # sorted by name
    given.card = tmp_path / "card.json"
    given.card.write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"healthy class first.*\[normal, Edema\]"):
        read_cohort(given, ids(files))


def test_other_numbers_of_classes_and_unknown_images_are_refused(
    files: Files, tmp_path: Path
) -> None:
    given = released(files, tmp_path, {"No Finding": [1], "Edema": [0], "Pneumonia": [0]})
    with pytest.raises(InputError, match="3 label columns"):
        read_cohort(given, ids(files))
    with pytest.raises(InputError, match="images unknown to it, such as 'nobody'"):
        read_cohort(given, [*ids(files), "nobody"])


def test_patients_of_unknown_sex_are_in_neither_group(files: Files, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = released(files, tmp_path, {"No Finding": [1, 0], "Edema": [0, 1]})
    source = pq.read_table(given.manifest)
    table: Any = source.to_pandas()
    table.loc[:3, "sex"] = None
    changed = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(changed.replace_schema_metadata(source.schema.metadata), given.manifest)
    leaks.main(["--manifests", str(given.manifest), "--out", str(given.leak_free)])
    cohort = read_cohort(given, ids(files))
    assert (cohort.attribute[:4] == -1).all()
    assert (cohort.cells()[:4] == -1).all()
    assert len(cohort.rows("train")) - len(cohort.rows("train", known=True)) == 4
    assert json.loads(given.leak_free.read_text())["split"]["leak_free"]
