"""Every case is evaluated exactly once, on any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.training.evaluation import evaluation_batches, gather_cases
from workflow_scripts.training.ranks import Ranks


class Told(Ranks):
    """Rank 0 of several, with what the others would send."""

    def gather(self, value: object) -> list[object]:  # type: ignore[override]
        return [value, *others]


others: list[object] = []


@given(n_cases=st.integers(0, 60), batch_size=st.integers(1, 9), world_size=st.integers(1, 5))
def test_the_ranks_together_see_the_same_batches_as_one_alone(
    n_cases: int, batch_size: int, world_size: int
) -> None:
    alone = evaluation_batches(n_cases, batch_size, Ranks())
    assert [case for batch in alone for case in batch] == list(range(n_cases))
    together = [
        batch
        for rank in range(world_size)
        for batch in evaluation_batches(n_cases, batch_size, Ranks(rank, world_size))
    ]
    assert sorted(together) == alone


def gathered(own: list[str], other: list[str], expected: list[str]) -> dict[str, np.ndarray]:
    others[:] = [(other, {"score": np.array([float(ord(case)) for case in other])})]
    columns = {"score": np.array([float(ord(case)) for case in own])}
    return gather_cases(Told(0, 2), own, columns, expected)


def test_gathered_cases_stand_in_the_expected_order_with_their_own_values() -> None:
    result = gathered(["c", "a"], ["b"], ["a", "b", "c"])
    assert result["score"].tolist() == [97.0, 98.0, 99.0]


def test_a_rank_without_cases_takes_part() -> None:
    assert gathered(["b", "a"], [], ["a", "b"])["score"].tolist() == [97.0, 98.0]


@pytest.mark.parametrize(
    ("other", "message"),
    [(["a"], "1 twice: ['a']"), ([], "1 missing: ['b']"), (["b", "x"], "1 unknown: ['x']")],
)
def test_a_case_that_is_twice_missing_or_unknown_stops_the_evaluation(
    other: list[str], message: str
) -> None:
    with pytest.raises(RuntimeError) as failed:
        gathered(["a"], other, ["a", "b"])
    assert message in str(failed.value)
