"""What the how-to page shows works as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from workflow_scripts.datasets import manifest, table
from workflow_scripts.datasets.layout import COMMON_OPTIONS, TRUTH_COLUMNS

PAGE = Path("docs/how-to/add-a-dataset.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_example_layout_writes_reads_and_makes_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, test = blocks("python")
    eyes = ModuleType("eyes")
    exec(compile(code, "eyes", "exec"), eyes.__dict__)  # noqa: S102 - our own page
    space: dict[str, Any] = {"Path": Path, "pd": pd, "Image": Image, "eyes": eyes}
    space["TRUTH_COLUMNS"] = TRUTH_COLUMNS
    exec(compile(test, "test_eyes", "exec"), space)  # noqa: S102 - our own page
    space["test_eyes_read_back_what_was_written"](tmp_path)
    rows = [
        dict.fromkeys(TRUTH_COLUMNS)
        | {"image_id": f"{i}.png", "path": f"photos/{i}.png"}
        | {"patient_id": f"p{i}", "view": "left", "label_text": str(i % 2)}
        for i in range(10)
    ]
    truth = pd.DataFrame(rows)
    eyes.write(tmp_path, truth, lambda row: Image.new("RGB", (2, int(row["image_id"][0]) + 1)), {})
    monkeypatch.setattr(manifest, "layout_named", lambda name: eyes.LAYOUT)
    found, card, _ = manifest.build("eyes", {"layout": "eyes"}, tmp_path, seed=0, jobs=1)
    assert len(found) == 10
    assert {name: size["images"] for name, size in card["counts"].items()} == {
        "train": 8,
        "test": 2,
    }


def test_the_command_of_the_page_makes_a_manifest_of_its_table(tmp_path: Path) -> None:
    csv = next(block for block in blocks("") if block.startswith("file,"))
    (tmp_path / "labels.csv").write_text(csv)
    (tmp_path / "images").mkdir()
    for number in range(1, 4):
        Image.new("L", (2, number)).save(tmp_path / f"images/{number:04}.png")
    options = re.search(r"--options '(.*?)'", blocks("sh")[0], flags=re.DOTALL)
    assert options is not None
    found = manifest.build("mine", json.loads(options[1]), tmp_path, seed=0, jobs=1)[0]
    assert found["label"].tolist() == [1, 0, 0]


def test_the_page_names_every_option_of_a_table() -> None:
    passed_over = {"layout", "root", "label_policy", "split_policy", "phantom", "grid"}  # of masks
    documented = set(re.findall(r"`(\w+)`", PAGE)) | set(re.findall(r"^    (\w+):", PAGE, re.M))
    assert set(table.OPTIONS) | set(COMMON_OPTIONS) - passed_over <= documented
