"""The contact sheet shows images of each class under their names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from workflow_scripts.phantoms.contact_sheet import choose, main
from workflow_scripts.problems import InputError


def manifest(labels: list[int]) -> pd.DataFrame:
    n = len(labels)
    return pd.DataFrame(
        {
            "image_id": [f"{i}.png" for i in range(n)],
            "path": [f"{i}.png" for i in range(n)],
            "patient_id": [f"p{i // 2}" for i in range(n)],
            "label": labels,
            "sex": ["F", None] * (n // 2) + ["F"] * (n % 2),
            "age_years": [float("nan")] * n,
        }
    )


def test_new_patients_come_before_second_images_of_one() -> None:
    rows = choose(manifest([0] * 8), ["a"], 4, np.random.default_rng(0))["a"]
    assert rows["patient_id"].nunique() == 4


def test_multi_label_rows_stand_under_each_of_their_findings() -> None:
    table = manifest([0, 0, 0]).drop(columns="label")
    table["label_Mass"], table["label_Edema"] = [1.0, 1.0, np.nan], [0.0, 1.0, 0.0]
    chosen = choose(table, (), 5, np.random.default_rng(0))
    assert sorted(chosen["Mass"]["image_id"]) == ["0.png", "1.png"]
    assert list(chosen["Edema"]["image_id"]) == ["1.png"]


def test_sheet_has_a_row_a_class_and_names_phantoms(tmp_path: Path) -> None:
    table = manifest([0, 0, 0, 1, 1])
    for path, level in zip(table["path"], (10, 10, 10, 200, 200), strict=True):
        Image.new("L", (40, 20), level).save(tmp_path / path)
    table.to_parquet(tmp_path / "m.parquet")
    (tmp_path / "card.json").write_text(json.dumps({"classes": ["a", "b"], "phantom": True}))
    main(
        [
            *("--manifest", str(tmp_path / "m.parquet"), "--root", str(tmp_path)),
            *("--card", str(tmp_path / "card.json"), "--side", "32"),
            *("--out", str(tmp_path / "sheet.jpg")),
        ]
    )
    sheet = np.asarray(Image.open(tmp_path / "sheet.jpg").convert("L"))
    assert sheet.shape == (32 + 2 * 52, 3 * 36)
    assert sheet[32 + 5, 16] == 10
    assert sheet[32 + 52 + 5, 16] == 200
    assert sheet[:28].min() < 100  # the title


def test_manifest_without_images_is_refused(tmp_path: Path) -> None:
    manifest([]).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(InputError, match="expected labelled images, found none"):
        main(
            [
                *("--manifest", str(tmp_path / "m.parquet"), "--root", str(tmp_path)),
                *("--out", str(tmp_path / "sheet.jpg")),
            ]
        )
