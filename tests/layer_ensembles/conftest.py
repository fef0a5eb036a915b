from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def golden(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "tests/golden/layer_ensembles.json").read_text())
    return content
