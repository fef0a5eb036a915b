"""What could explain a number outside its tolerance."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, fields
from pathlib import Path

from workflow_scripts.protocol_option import option
from workflow_scripts.report import protocol_differences
from workflow_scripts.report.ledger import OUTSIDE, REPRODUCED, Entry, explanation_lines
from workflow_scripts.report.protocol_differences import STEPS, differences
from workflow_scripts.report.protocols_page import SECTIONS
from workflow_scripts.report.published import Published

PUBLISHED = Path(__file__).parents[2] / "results/published"


@dataclass(frozen=True)
class Options:
    crop: str = option("what is cut", "s")
    clip: float = option("limits", "s")
    order: tuple[str, ...] = option("sorted how", "s")


BUNDLES = {
    "released": Options("squash", math.nan, ("a", "b")),
    "corrected": Options("whole", math.nan, ("a", "b")),
}
SECTION = (("SSL transfer: linear", BUNDLES), ("CROCODILE", BUNDLES))


def test_only_options_that_differ_are_named_and_nan_equals_nan() -> None:
    (found,) = differences("ssl_transfer_linear", SECTION)
    assert found.text == "linear, crop (released: squash, corrected: whole)"
    assert found.why == "what is cut"


def test_a_table_has_the_options_of_its_own_steps_only() -> None:
    assert {one.step for one in differences("ssl_transfer_finetune")} == {"fine-tuning"}
    names = {one.name for one in differences("ssl_transfer_few_shot")}
    assert "refit" not in names  # the linear probe's
    assert differences("ssl_transfer_cka") == ()  # no paper prints it
    steps = {one.step for one in differences("debiased_noise_fairness")}
    assert len(steps) >= 2


def test_every_printed_table_has_steps_and_every_step_exists() -> None:
    titles = {title for title, _ in SECTIONS}
    assert {step for steps in STEPS.values() for step in steps} <= titles
    printed = set()
    for path in PUBLISHED.glob("*.csv"):
        with path.open(newline="") as handle:
            lines = list(csv.DictReader(handle))
        if lines and "tolerance" in lines[0]:
            printed |= {line["table"] for line in lines}
    assert printed == set(STEPS)
    for table in printed:
        assert differences(table), table


def test_each_difference_is_a_real_one() -> None:
    bundles = dict(SECTIONS)["SSL transfer: linear"]
    told = {one.name: dict(one.values) for one in differences("ssl_transfer_linear")}
    for one in fields(bundles["released"]):
        old, new = (getattr(bundles[name], one.name) for name in ("released", "corrected"))
        assert (one.name in told) == (repr(old) != repr(new))
    assert told["refit"] == {"released": "warm", "corrected": "cold"}


def entry(verdict: str) -> Entry:
    cell = Published(
        "ssl_transfer", "ssl_transfer_linear", "moco-v2", "chexpert", "accuracy", 74.94, math.nan,
        "percent", "s", "", 1.5, "r",
    )  # fmt: skip
    return Entry(cell, None, verdict, "")


def test_the_ledger_explains_what_is_outside_and_nothing_else() -> None:
    assert entry(REPRODUCED).could_explain == ()
    assert explanation_lines([entry(REPRODUCED)]) == []
    lines = explanation_lines([entry(OUTSIDE), entry(OUTSIDE)])
    expected = protocol_differences.differences("ssl_transfer_linear")
    assert sum(line.startswith("- ") for line in lines) == len(expected)  # each once
