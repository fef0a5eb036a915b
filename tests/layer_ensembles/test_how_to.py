"""The how-to page's code runs as it stands, in order."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from workflow_scripts.layer_ensembles.inference import predict
from workflow_scripts.layer_ensembles.wrapper import LayerEnsembles, attach_heads


def test_code_of_the_page_runs_and_gives_what_it_says(root: Path) -> None:
    page = (root / "docs/how-to/uncertainty-for-your-network.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    five = blocks[2].strip().splitlines()
    assert len(five) == 5
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), "page", "exec"), names)  # noqa: S102, our own page
    cases = names["cases"]
    assert [case.label.shape for case in cases] == [(64, 64)] * 4
    assert all(case.entropy.shape == (64, 64) and 0 <= case.aula <= 1 for case in cases)
    order = [cases[number].aula for number in names["suspicious_first"]]
    assert order == sorted(order)


def test_regression_gives_mean_and_variance_of_the_heads() -> None:
    layers = [nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    wrapped = attach_heads(network, torch.zeros(1, 3, 16, 16), "regression", 2, ["0", "1"])
    images = torch.randn(3, 3, 16, 16)
    found = predict(wrapped, images)
    heads = torch.stack(list(wrapped(images).values())).detach().double()
    torch.testing.assert_close(torch.tensor(found[0].label), heads[:, 0].mean(dim=0))
    expected = heads[:, 0].var(dim=0, unbiased=False)
    torch.testing.assert_close(torch.tensor(found[0].variance), expected)
    assert math.isnan(found[0].aula)


def test_prediction_refuses_what_leaves_no_head_and_puts_the_mode_back() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1))
    with pytest.raises(ValueError, match="set the output heads"):
        predict(LayerEnsembles(network, ["0"]), torch.zeros(1, 1, 8, 8))
    wrapped = attach_heads(network, torch.zeros(1, 1, 8, 8), "segmentation", 2, ["0"]).train()
    with pytest.raises(ValueError, match="skip: expected 0 to 1, found 2"):
        predict(wrapped, torch.zeros(1, 1, 8, 8), skip=2)
    assert wrapped.training
    assert math.isnan(predict(wrapped, torch.zeros(1, 1, 8, 8))[0].aula)  # two predictions
