"""Who stands in the trust matrix: one row a model and the data that it was judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from workflow_scripts.metrics.fairness import ATTRIBUTES
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.report.kinds.ladder import CLEAN, WHOLE
from workflow_scripts.report.predictions import Header
from workflow_scripts.report.trust_cases import ARTEFACTS, Judged, read_judged
from workflow_scripts.report.trust_columns import (
    AGREEMENT,
    BACKBONES,
    CALIBRATION_ID,
    CALIBRATION_OOD,
    CORRELATION,
    CROCODILE,
    DOUBT,
    DROP,
    FAIRNESS,
    GAP,
    HIDDEN,
    ID,
    ID_OOD,
    LADDER,
    OOD,
    QUALITY,
    SEGMENTATION,
)
from workflow_scripts.report.trust_measures import Seeds, is_paired

SHORT = {
    "crocodile": "CROCODILE",
    "ssl_transfer": "SSL transfer",
    "cooperative_training": "Cooperative training",
    "layer_ensembles": "Layer ensembles",
    "debiased_noise": "Debiased noise",
}
Sets = Mapping[str, Seeds]  # test sets by their column in the system's own table


class Copy(NamedTuple):
    """A cell that a table holds already.

    Attributes:
        to: column of the matrix.
        table, row, column: where it stands.
        metrics: its metrics there, with their names in the matrix.
    """

    to: str
    table: str
    row: str
    column: str
    metrics: Mapping[str, str]


class Subject(NamedTuple):
    """One row of the matrix.

    Attributes:
        name: system and model.
        protocol: of its predictions.
        inside: seeds of the test set from the training's own source.
        outside: of another source; none where it was not tested on one.
        artefacts: of the same scans with artefacts; none as above.
        copies: cells that are taken from tables.
    """

    name: str
    protocol: str
    inside: Seeds
    outside: Seeds
    artefacts: Seeds
    copies: tuple[Copy, ...]


def same(*names: str) -> dict[str, str]:
    """Return metrics that keep their names."""
    return {name: name for name in names}


def subjects(headers: Sequence[Header], has_ladder: Callable[[str, str], bool]) -> list[Subject]:
    """Return the rows of the matrix, in the order of the predictions.

    Args:
        headers: of all predictions.
        has_ladder: whether a protocol and row stands in the table of the ladder of artefacts.

    Raises:
        InputError: predictions of a table that has no place in the matrix, or seeds with other
            cases.
    """
    bundles: dict[tuple[str, str, str], list[Header]] = {}
    for header in headers:
        if header.table not in READERS:
            known = ", ".join(READERS)
            raise refuse(str(header.path), f"a table of {known}", header.table, "leave it out")
        bundles.setdefault((header.table, header.protocol, header.row), []).append(header)
    found: list[Subject] = []
    for (table, protocol, row), bundle in bundles.items():
        if table == SEGMENTATION and not has_ladder(protocol, row):
            continue  # of the networks in series, those that the ladder looks at
        found += READERS[table](row, protocol, test_sets(bundle))
    return found


def test_sets(headers: Sequence[Header]) -> dict[str, Seeds]:
    """Return the test sets of one row of a table, seeds in their order."""
    sets: dict[str, list[Judged]] = {}
    for header in sorted(headers, key=lambda header: header.seed):
        for name, one in read_judged(header).items():
            sets.setdefault(name, []).append(one)
    problems = [
        Problem(
            str(seeds[-1].header.path), f"the cases of {seeds[0].header.path}", "other cases",
            "make all seeds of a cell from one manifest",
        )
        for seeds in sets.values()
        if not is_paired(seeds)
    ]  # fmt: skip
    if problems:
        raise InputError(problems)
    return dict(sets)


def _named(headers: Seeds, row: str) -> str:
    system = headers[0].header.system
    return f"{SHORT.get(system, system)}: {row}"


def _crocodile(row: str, protocol: str, sets: Sets) -> Iterator[Subject]:
    if ID not in sets:
        return
    inside = sets[ID]
    table, row = inside[0].header.table, f"{row}, {inside[0].head}"
    copies = [
        Copy(DROP, table, row, DROP, same("mean_auc_drop", "map_drop")),
        *(Copy(to, table, row, to, same("mean_auc", "map", "chance")) for to in (ID, OOD)),
        *(
            Copy(to, table, row, column, same("ece", "brier"))
            for to, column in ((CALIBRATION_ID, ID), (CALIBRATION_OOD, OOD))
        ),
    ]
    yield Subject(_named(inside, row), protocol, inside, sets.get(OOD, ()), (), tuple(copies))


def _id_ood(row: str, protocol: str, sets: Sets) -> Iterator[Subject]:
    """Yield a row for each data set that a probe met outside its own; one if it met none.

    A column is `TRAINED to TESTED`, or `TRAINED to TESTED FINDING`.
    """
    parts = {name: _parts_of(name) for name in sets}
    for own, inside in sets.items():
        train, test, finding = parts[own]
        if train != test:
            continue
        table = inside[0].header.table
        names = (inside[0].header.metric, "accuracy", "mean_per_class_accuracy", "auc", "chance")
        metrics = same(*dict.fromkeys(names))
        others = [
            name for name, (first, second, third) in parts.items()
            if (first, third) == (train, finding) and second != train
        ]  # fmt: skip
        for other in others or [own]:
            copies = [Copy(ID, table, row, own, metrics)]
            copies += [Copy(OOD, table, row, other, metrics)] * (other != own)
            outside = sets[other] if other != own else ()
            name = _named(inside, f"{row}, {other}")
            yield Subject(name, protocol, inside, outside, (), tuple(copies))


def _parts_of(column: str) -> tuple[str, str, str]:
    """Return what a probe was fitted on, what it was tested on, and the finding.

    >>> _parts_of("chestx to padchest Lung Opacity"), _parts_of("shenzhen to shenzhen")
    (('chestx', 'padchest', 'Lung Opacity'), ('shenzhen', 'shenzhen', ''))
    """
    train, _, rest = column.partition(" to ")
    test, _, finding = rest.partition(" ")
    return train, test, finding


def _segmenter(row: str, protocol: str, sets: Sets) -> Iterator[Subject]:
    own, *others = [name for name in sets if name != ARTEFACTS] or [""]
    inside = sets.get(own)
    if inside is None:
        return
    table = inside[0].header.table
    copies = [
        Copy(ID, table, row, own, same("dice", "hd95_mm")),
        Copy(AGREEMENT, LADDER, row, CLEAN, same("aula")),
        Copy(DOUBT, LADDER, row, WHOLE, same("spearman_dsc_aula", "spearman_dsc_entropy")),
    ]
    artefacts = sets.get(ARTEFACTS, ())
    if not others:
        yield Subject(_named(inside, row), protocol, inside, (), artefacts, tuple(copies))
    for other in others:
        copied = (*copies, Copy(OOD, table, row, other, same("dice", "hd95_mm")))
        name = row if len(others) == 1 else f"{row}, {own} to {other}"
        yield Subject(_named(inside, name), protocol, inside, sets[other], artefacts, copied)


def _layer_ensembles(row: str, protocol: str, sets: Sets) -> Iterator[Subject]:
    signs = [f"spearman_dsc_{one}" for one in ("aula", "entropy", "mutual_information", "variance")]
    for column, inside in sets.items():
        copies = (
            Copy(ID, QUALITY, row, column, {"dsc": "dice", **same("mhd_mm", "mhd_px")}),
            Copy(CALIBRATION_ID, QUALITY, row, column, same("nll")),
            Copy(DOUBT, CORRELATION, row, column, same(*signs, "qc_auc")),
        )
        yield Subject(_named(inside, f"{row}, {column}"), protocol, inside, (), (), copies)


def _debiased(row: str, protocol: str, sets: Sets) -> Iterator[Subject]:
    gaps = [f"{gap}{end}" for gap in ("eo_p", "eo_n") for end in ("", "_null", "_p")]
    for column, inside in sets.items():
        table = inside[0].header.table
        copies = [
            Copy(ID, table, row, column, same("accuracy", "auc", "worst_subgroup", "chance")),
            Copy(HIDDEN, table, row, column, same(*gaps, "constant_prediction")),
        ]
        for group, attribute in (("sex", "sex"), ("age", "age_years")):
            seen = ATTRIBUTES[attribute]  # the column names the hidden one; others stand beside
            place = column if column.endswith(f", {seen}") else f"{column}; by {seen}"
            metrics = same("accuracy_gap", "accuracy_gap_null", "accuracy_gap_p")
            copies.append(Copy(GAP[group], table, row, place, metrics))
        yield Subject(_named(inside, f"{row}, {column}"), protocol, inside, (), (), tuple(copies))


READERS: dict[str, Callable[[str, str, Sets], Iterator[Subject]]] = {
    CROCODILE: _crocodile,
    ID_OOD: _id_ood,
    SEGMENTATION: _segmenter,
    QUALITY: _layer_ensembles,
    FAIRNESS: _debiased,
    BACKBONES: _debiased,
}
