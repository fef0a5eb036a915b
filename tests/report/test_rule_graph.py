"""The drawing of which rule feeds which."""

from __future__ import annotations

import re
from itertools import pairwise

from workflow_scripts.report.planned_jobs import PlannedJob
from workflow_scripts.report.rule_graph import edges_of, first_depths, forward, layers_of, svg


def job(rule: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> PlannedJob:
    words = dict.fromkeys(PlannedJob.__dataclass_fields__)
    words |= {"rule": rule, "inputs": inputs, "outputs": outputs, "is_local": True, "resources": {}}
    return PlannedJob(**words)  # type: ignore[arg-type]


# a manifest of copies that are made from a manifest: a circle of rules, none of jobs
JOBS = [
    job("phantom", (), ("raw",)),
    job("manifest", ("raw",), ("m",)),
    job("corrupt", ("m",), ("copies",)),
    job("manifest", ("copies",), ("mc",)),
    job("train", ("m",), ("w",)),
    job("score", ("w", "mc"), ("s",)),
    job("table", ("s",), ("t",)),
]


def test_a_circle_of_rules_is_opened_where_its_first_job_is() -> None:
    edges = edges_of(JOBS)
    assert {("manifest", "corrupt"), ("corrupt", "manifest")} <= edges
    kept = forward(edges, first_depths(JOBS))
    assert edges - kept == {("corrupt", "manifest")}
    layers = layers_of(sorted({one.rule for one in JOBS}), kept)
    assert layers == [["phantom"], ["manifest"], ["corrupt", "train"], ["score"], ["table"]]


def test_the_drawing_is_as_high_as_its_layers() -> None:
    found = re.search(r'viewBox="0 0 ([0-9]+) ([0-9]+)"', svg(JOBS))
    assert found
    assert int(found.group(2)) < 600  # it was 14 times higher with the circle in it
    assert svg(JOBS) == svg(JOBS)


def test_without_circles_every_edge_leads_down() -> None:
    chain = [job(f"r{i}", (f"f{i}",), (f"f{i + 1}",)) for i in range(5)]
    edges = edges_of(chain)
    assert forward(edges, first_depths(chain)) == edges
    assert layers_of([one.rule for one in chain], edges) == [[one.rule] for one in chain]
    assert edges == {(a.rule, b.rule) for a, b in pairwise(chain)}
