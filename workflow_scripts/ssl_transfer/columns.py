"""The columns of a step's table in the configuration: which protocol runs them, what cannot be.

Light on purpose: imported each time Snakemake plans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.transform_names import MULTI_VIEW, default_k
from workflow_scripts.system_plan import Config, Conflict

Column = Mapping[str, Any]
# What parts two columns of a step: its files are named so.
KEYS = {
    "few_shot": ("dataset", "n_way"),
    "linear": ("dataset",),
    "finetune": ("dataset",),
    "saliency": ("dataset",),
    "reconstruction": ("dataset",),
    "invariance": ("dataset", "transform", "k", "batch_norm"),
    "knn": ("dataset",),
    "cka": ("dataset",),
    "id_ood": ("experiment", "train", "finding"),
}
HEADED = ("linear", "finetune", "saliency", "invariance")  # a name may fit two columns' keys
EVAL = "eval"  # BatchNorm in evaluation mode


def columns_of(step: Config, protocol: str) -> list[Column]:
    """Return the columns of a step that a protocol runs: all, but those that name others.

    >>> bach, cifar10 = {"dataset": "bach"}, {"dataset": "cifar10", "protocols": ["released"]}
    >>> step = {"protocols": ["released", "corrected"], "columns": [bach, cifar10]}
    >>> [column["dataset"] for column in columns_of(step, "corrected")]
    ['bach']
    """
    return [one for one in step["columns"] if protocol in one.get("protocols", (protocol,))]


def column_conflicts(section: Config) -> Iterator[Conflict]:
    """Yield what the schema allows and no step can run.

    Args:
        section: `ssl_transfer` of the configuration.
    """
    for name, keys in KEYS.items():
        step = section.get(name, {"columns": ()})
        seen: set[tuple[Any, ...]] = set()
        for index, column in enumerate(step["columns"]):
            where = (name, "columns", str(index))
            key = tuple(_complete(column).get(one) for one in keys)
            if key in seen:
                found = "the same again: " + ", ".join(str(part) for part in key if part)
                yield Conflict(where, "columns with results of their own", found, "keep one")
            seen.add(key)
            unknown = set(column.get("protocols", ())) - set(step.get("protocols", ()))
            if unknown:
                expected = f"some of {', '.join(step['protocols'])}, which the step runs"
                yield Conflict((*where, "protocols"), expected, ", ".join(sorted(unknown)),
                               "add them to the step, or leave them out")  # fmt: skip
            if name == "invariance":
                yield from _transform_conflicts(where, column)
        if name in HEADED:
            yield from _heading_conflicts(name, step)
    yield from _occlusion_conflicts(section["saliency"])


def table_column(column: Column) -> str:
    """Return what a table calls a column; the number of versions is no part of it.

    >>> table_column({"dataset": "bach", "transform": "hue", "k": 5, "batch_norm": "batch"})
    'bach hue_batch'
    """
    if "transform" not in column:
        return str(column.get("column", column["dataset"]))
    batch_norm = column.get("batch_norm", EVAL)
    ending = "" if batch_norm == EVAL else f"_{batch_norm}"
    return f"{column['dataset']} {column['transform']}{ending}"


def _heading_conflicts(name: str, step: Config) -> Iterator[Conflict]:
    """Yield columns with a name that another has in the same protocol's table."""
    taken: dict[tuple[str, str], tuple[int, Column]] = {}
    for index, column in enumerate(step["columns"]):
        heading = table_column(column)
        own = [_complete(column).get(key) for key in KEYS[name]]
        for protocol in column.get("protocols", step.get("protocols", ())):
            at, other = taken.setdefault((protocol, heading), (index, column))
            if own != [_complete(other).get(key) for key in KEYS[name]]:
                expected = "columns with names of their own in the table"
                found = f"{heading!r} for protocol {protocol}, as columns.{at}"
                where, advice = (name, "columns", str(index)), "keep one, or rename one"
                yield Conflict(where, expected, found, advice)
                break


def _complete(column: Column) -> Column:
    """Return a column with what it leaves open."""
    transform = column.get("transform")
    if transform is None:
        return column
    k = None if transform == MULTI_VIEW else default_k(transform)
    return {"k": k, "batch_norm": EVAL, **column}


def _transform_conflicts(where: tuple[str, ...], column: Column) -> Iterator[Conflict]:
    """Yield a k that the transform cannot have."""
    if column["transform"] == MULTI_VIEW:
        if "k" in column:
            found, step = str(column["k"]), "leave out k"
            yield Conflict((*where, "k"), "none: a pair of views has one version", found, step)
    elif "k" in column:
        from workflow_scripts.ssl_transfer.transform_grid import grid

        try:
            grid(column["transform"], column["k"])
        except InputError as error:
            for one in error.problems:
                yield Conflict((*where, "k"), one.expected, one.found, one.next_step)


def _occlusion_conflicts(step: Config) -> Iterator[Conflict]:
    """Yield a window that leaves pixels uncovered, or no map."""
    from workflow_scripts.ssl_transfer.occlusion import Occlusion

    try:
        Occlusion(step["window"], step["stride"]).places(step["image_size"])
    except InputError as error:
        for one in error.problems:
            yield Conflict(("saliency",), one.expected, one.found, one.next_step)
