"""The golden numbers of CROCODILE and the formula that fills its tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CONTENT = json.loads((Path(__file__).parents[1] / "golden" / "crocodile.json").read_text())
CASES: dict[str, dict[str, Any]] = {case["id"]: case for case in CONTENT["cases"]}


def case(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return inputs and expected values of a case."""
    return CASES[name]["inputs"], CASES[name]["expected"]


def fill(shape: tuple[int, ...], k: int, scale: float = 1.0) -> Tensor:
    """Return scale * sin(0.7 (j + 1) + 0.3 k) over the flat index j, float64."""
    j = torch.arange(int(torch.tensor(shape).prod()), dtype=torch.float64)
    return (scale * torch.sin(0.7 * (j + 1) + 0.3 * k)).reshape(shape)


def doubles(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def near(found: Tensor | float, expected: Any, name: str) -> None:
    """Assert equality in the case's own tolerances."""
    torch.testing.assert_close(
        torch.as_tensor(found, dtype=torch.float64).detach(),
        doubles(expected),
        rtol=CASES[name]["rel_tol"],
        atol=CASES[name]["abs_tol"],
    )


def set_parameters(module: nn.Module, described: list[dict[str, Any]], names: Any) -> None:
    """Give a module the described values; every parameter must be described, and none more."""
    own = dict(module.named_parameters())
    wanted = {names(one["role"]): one for one in described}
    assert set(own) == set(wanted), set(own) ^ set(wanted)
    with torch.no_grad():
        for name, one in wanted.items():
            base = torch.zeros(one["shape"], dtype=torch.float64)
            if one["base"] == "shift":
                for i in range(9):
                    base[:, i, i // 3, i % 3] = 1
            base = base + {"one": 1.0, "half": 0.5}.get(one["base"], 0.0)
            own[name].copy_(base + fill(tuple(one["shape"]), one["k"], one["scale"]))
