"""LaTeX itself reads the tables, whatever the names in them; skipped where there is none."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import METRICS, SHOWN_METRICS, p_value_of
from workflow_scripts.report.rendering import blocks, latex, legend, markdown

from .conftest import value_of

LATEX = shutil.which("pdflatex")
needs_latex = pytest.mark.skipif(LATEX is None, reason="no pdflatex is installed")
NAMES = ("plain", "a_b & 50 % #1", "{$x^2$} ~ \\alpha", "± – * <&>")  # noqa: RUF001
DOCUMENT = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}%s\end{document}"


def compiled(folder: Path, fragments: list[str]) -> str:
    """Return LaTeX's log of a document with these tables; an error fails."""
    (folder / "tables.tex").write_text(DOCUMENT % "\n".join(fragments), encoding="utf-8")
    command = [str(LATEX), "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout[-2000:]
    return (folder / "tables.log").read_text(encoding="latin-1")


def values_of(table: str, metrics: tuple[str, ...]) -> list[Value]:
    """Return four rows with hostile names, each second value undefined or significant."""
    return [
        value_of(
            math.nan if (i + j) % 5 == 4 else METRICS[metric].low if j % 2 else 0.5,
            table=table, row=row, column=NAMES[j % len(NAMES)], metric=metric, data="phantom",
            ci_low=math.nan, ci_high=math.nan, interval="none",
        )
        for i, row in enumerate(NAMES)
        for j, metric in enumerate(metrics)
        if math.isfinite(METRICS[metric].low)
    ]  # fmt: skip


@needs_latex
def test_every_table_compiles_with_hostile_names(tmp_path: Path) -> None:
    shown = {**SHOWN_METRICS, "ssl_transfer_linear": ("accuracy",)}
    fragments = [latex(name, blocks(values_of(name, metrics))) for name, metrics in shown.items()]
    log = compiled(tmp_path, fragments)
    assert "Missing character" not in log
    assert "multiply defined" not in log
    assert re.search(r"Output written on .*pages?", log)


@needs_latex
def test_a_wide_table_is_not_wider_than_the_text(tmp_path: Path) -> None:
    values = [value_of(0.5, row="moco-v2", column=f"a data set with a name {i}") for i in range(12)]
    few = [value_of(0.5, row="a backbone with a rather long name", column=c, table="few",
                    interval="patient bootstrap")
           for c in ("a data set with a long name", "another one", "and a third")]  # fmt: skip
    tables = [latex("wide", blocks(values)), latex("few", blocks(few))]
    assert "resizebox" in tables[0]
    assert "Overfull" not in compiled(tmp_path, tables)
    assert "resizebox" not in latex("narrow", blocks(values[:1]))


@needs_latex
def test_what_latex_cannot_read_would_be_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Undefined control sequence"):
        compiled(tmp_path, [r"\nonsense"])


def with_tests() -> list[Value]:
    words = {"table": "layer_ensembles_segmentation", "column": "bcdr", "ci_low": math.nan,
             "ci_high": math.nan, "interval": "none"}  # fmt: skip
    numbers = {
        "plain": (0.8, 0.049),
        "deep_ensembles": (0.95, 0.05),
        "layer_ensembles": (0.9, None),
    }
    values = []
    for row, (score, p_value) in numbers.items():
        values.append(value_of(score, row=row, metric="dsc", **words))
        if p_value is not None:
            values.append(value_of(p_value, row=row, metric="p_dsc", **words))
    return values


def test_a_star_marks_what_differs_from_its_baseline_and_bold_the_best() -> None:
    (block,) = blocks(with_tests())
    fragment, page = latex("t", [block]), markdown("t", [block])
    assert r"plain & 0.800$^{*}$ \\" in fragment  # p 0.049
    assert r"deep\_ensembles & \textbf{0.950} \\" in fragment  # p 0.05 is not below 0.05
    assert r"layer\_ensembles & 0.900 \\" in fragment
    assert r"| plain | 0.800\* |" in page
    assert "*: differs from the row it is compared with" in legend(block)
    assert "p_dsc" not in page


def test_without_tests_no_star_is_explained() -> None:
    (block,) = blocks([value for value in with_tests() if value.metric == "dsc"])
    assert not block.is_tested
    assert "differs from" not in legend(block)


def test_the_tests_of_both_segmentation_papers_are_found() -> None:
    assert p_value_of("dsc") in METRICS
    assert p_value_of("mhd_mm_lv") in METRICS
    assert p_value_of("dice") in METRICS
    assert p_value_of("accuracy") not in METRICS
