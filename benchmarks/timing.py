"""Compare a product path with the plain reference: both in turn, CPU seconds decide.

`baseline` and `product` are called without arguments and return what they computed; `equal`
judges the two results. The printed line is `name | baseline | product | ratio | equal`.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call took: CPU seconds (user and system, ended children included) and wall."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians of the repeats, and whether all results were equal."""

    name: str
    baseline: Cost
    product: Cost
    equal: bool

    @property
    def ratio(self) -> float:
        """How many times less CPU time the product takes."""
        return self.baseline.cpu_s / max(self.product.cpu_s, 1e-6)

    @property
    def wall_ratio(self) -> float:
        """How many times sooner the product is done."""
        return self.baseline.wall_s / max(self.product.wall_s, 1e-6)

    def __str__(self) -> str:
        sides = [f"{side.cpu_s:.3f} CPU-s ({side.wall_s:.3f} s)" for side in self._sides]
        equal = "equal" if self.equal else "DIFFERENT"
        return f"{self.name} | {sides[0]} | {sides[1]} | {self.ratio:.1f}x | {equal}"

    @property
    def _sides(self) -> tuple[Cost, Cost]:
        return self.baseline, self.product


def timed(call: Callable[[], Result]) -> tuple[Cost, Result]:
    """Return what `call` took and gave."""
    before, start = _cpu_s(), time.perf_counter()
    result = call()
    return Cost(_cpu_s() - before, time.perf_counter() - start), result


def _cpu_s() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def compare(
    name: str,
    baseline: Callable[[], Result],
    product: Callable[[], Result],
    equal: Callable[[Result, Result], bool],
    repeats: int = 3,
) -> Comparison:
    """Run both sides in turn `repeats` times, print one line and return it."""
    costs: tuple[list[Cost], list[Cost]] = ([], [])
    all_equal = True
    for _ in range(repeats):
        baseline_cost, expected = timed(baseline)
        product_cost, found = timed(product)
        costs[0].append(baseline_cost)
        costs[1].append(product_cost)
        all_equal = all_equal and equal(expected, found)
    comparison = Comparison(name, _median(costs[0]), _median(costs[1]), all_equal)
    print(comparison, flush=True)
    return comparison


def _median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.cpu_s for cost in costs),
        statistics.median(cost.wall_s for cost in costs),
    )
