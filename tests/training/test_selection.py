"""Early stopping as released, and as it should be."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.training.selection import KeptWeights, Selection, SelectionRule

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "ssl_transfer.json").read_text(encoding="utf-8")
)


def rule(direction: Any = "max", equal_resets: bool = False, patience: int | None = 3) -> Any:
    return SelectionRule("val_metric", "val", direction, equal_resets, patience, "best")


@pytest.mark.parametrize("case", GOLDEN["early_stopping"])
def test_the_released_rule_of_ssl_transfer_stops_where_it_did(case: dict[str, Any]) -> None:
    selection = Selection(rule(equal_resets=True, patience=case["patience"]))
    checks = 0
    for step in range(case["check_every"], case["steps"] + 1, case["check_every"]):
        selection.observe(case["val_accs_at_each_check"][checks], step)
        checks += 1
        if selection.should_stop:
            break
    assert (checks, step) == (case["n_checks_done"], case["train_steps_done"])


def test_the_released_rule_of_layer_ensembles_counts_and_saves_as_it_did() -> None:
    # golden `early_stopping` of layer ensembles: an equal loss is kept and resets the count
    losses = [1.0, 0.8, 0.8, 0.9, 0.85, 0.7, 0.71, 0.72, 0.73]
    selection = Selection(rule("min", equal_resets=True))
    seen = [
        (selection.observe(loss, step), selection.waited, selection.should_stop)
        for step, loss in enumerate(losses)
    ]
    assert [waited for _, waited, _ in seen] == [0, 0, 0, 1, 2, 0, 1, 2, 3]
    assert [stop for _, _, stop in seen] == [False] * 8 + [True]
    kept = [loss for loss, (is_best, _, _) in zip(losses, seen, strict=True) if is_best]
    assert kept == [1.0, 0.8, 0.8, 0.7]


def test_an_equal_value_resets_only_where_the_rule_says_so() -> None:
    for equal_resets, waited in ((True, 0), (False, 1)):
        selection = Selection(rule(equal_resets=equal_resets))
        selection.observe(0.5, 1)
        assert selection.observe(0.5, 2) is equal_resets
        assert selection.waited == waited


@given(st.lists(st.sampled_from([0.1, 0.5, 0.9, math.nan]), max_size=12))
def test_an_undefined_value_never_wins(values: list[float]) -> None:
    for direction, best_of in (("max", max), ("min", min)):
        selection = Selection(rule(direction, patience=None))
        for step, value in enumerate(values):
            selection.observe(value, step)
        defined = [value for value in values if not math.isnan(value)]
        if not defined:
            assert math.isnan(selection.best)
            assert selection.best_step == -1
        else:
            assert selection.best == best_of(defined)
            assert selection.best_step == values.index(selection.best)  # the first of equals
        assert not selection.should_stop


def test_test_data_may_not_select() -> None:
    with pytest.raises(ValueError, match="test data may not choose a model"):
        SelectionRule("test_auc", "test", "max", False, 3, "best")  # type: ignore[arg-type]


def test_a_patience_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="patience: expected at least 1 or None, found 0"):
        rule(patience=0)


def test_a_saved_selection_goes_on_where_it_was() -> None:
    first, second = Selection(rule()), Selection(rule())
    for step, value in enumerate([0.5, 0.4]):
        first.observe(value, step)
    second.load_state_dict(first.state_dict())
    for selection in (first, second):
        selection.observe(0.3, 2)
        selection.observe(0.2, 3)
    assert second.state_dict() == first.state_dict()
    assert second.should_stop


def test_kept_weights_are_a_copy_that_updates_do_not_change() -> None:
    network = torch.nn.Linear(2, 1)
    alias, kept = network.state_dict(), KeptWeights()
    kept.keep(network)
    before = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.add_(1)
    assert torch.equal(alias["weight"], network.weight)  # golden `early_stopping_alias`
    kept.restore(network)
    assert torch.equal(network.weight, before)


def test_without_kept_weights_nothing_is_restored() -> None:
    network = torch.nn.Linear(2, 1)
    before = network.weight.detach().clone()
    KeptWeights().restore(network)
    assert torch.equal(network.weight, before)
