"""Overview page, closing text and captions."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.problems import InputError
from workflow_scripts.report import ledger
from workflow_scripts.report.long_form import Value, write_values
from workflow_scripts.report.rendering import blocks
from workflow_scripts.report.sources import Source, write_sources
from workflow_scripts.report.summary import main, text_block

from .conftest import value_of

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results/published/ssl_transfer.csv"
CAPTIONS = sorted((ROOT / "workflow_scripts/report/captions").glob("*.rst"))
CARD = {
    "dataset": "chestx", "title": "<b>NIH</b>", "licence": "CC0", "phantom": False,
    "flow": [{"step": "rows", "images": 1200, "patients": 400}],
    "counts": {"train": {"images": 900, "patients": 300}},
}  # fmt: skip
CERTIFICATE = {
    "checkpoint": "moco-v2", "architecture": "resnet50", "parameters": 23508032,
    "backbone_sha256": "0123456789abcdef", "missing": [], "unexpected": ["fc.weight"],
    "phantom": False, "pretrained": True, "source": {"file": "moco.pth.tar"},
}  # fmt: skip
VOID = {"meta", "br", "img"}
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"/>'


class Nesting(HTMLParser):
    """Fails where tags do not nest; gathers the addresses that a browser would fetch or open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "src" or (name == "href" and tag == "link"):
                self.fetched.append(value or "")
            elif name == "href":
                self.linked.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def make(
    folder: Path,
    values: list[Value],
    cards: tuple[dict[str, Any], ...] = (CARD,),
    certificates: tuple[dict[str, Any], ...] = (CERTIFICATE,),
    extra: tuple[str, ...] = (),
) -> tuple[str, str]:
    """Write all inputs and return page and text."""
    write_values(folder / "t.csv", values)
    (folder / "t.svg").write_text(PICTURE, encoding="utf-8")
    out = ["--csv", str(folder / "ledger.csv"), "--markdown", str(folder / "ledger.md")]
    ledger.main(["--published", str(PUBLISHED), "--tables", str(folder / "t.csv"), *out])
    words = ["--tables", str(folder / "t.csv"), "--ledger", str(folder / "ledger.csv")]
    words += ["--figures", str(folder / "t.svg")]
    words += extra
    for kind, contents in (("cards", cards), ("certificates", certificates)):
        words.append(f"--{kind}")
        for i, content in enumerate(contents):
            path = folder / f"{kind}{i}.json"
            path.write_text(json.dumps(content), encoding="utf-8")
            words.append(str(path))
    page, text = folder / "sub" / "summary.html", folder / "sub" / "summary.txt"
    main([*words, "--page", str(page), "--text", str(text)])
    return page.read_text(encoding="utf-8"), text.read_text(encoding="utf-8")


def test_the_page_nests_and_fetches_nothing(tmp_path: Path) -> None:
    page, _ = make(tmp_path, [value_of(0.7), value_of(0.8, row="byol")])
    parser = Nesting()
    parser.feed(page)
    assert parser.open == []
    assert parser.fetched
    assert all(address.startswith("data:image/svg+xml;base64,") for address in parser.fetched)
    assert "@import" not in page
    assert "url(" not in page


def test_links_of_the_page_lead_to_files_and_headings(tmp_path: Path) -> None:
    page, _ = make(tmp_path, [value_of(0.7)])
    parser = Nesting()
    parser.feed(page)
    assert len(parser.linked) == 7  # four parts, one table in the contents; its file, the ledger
    for address in parser.linked:
        if address.startswith("#"):
            assert f'id="{address[1:]}"' in page
        else:
            assert (tmp_path / "sub" / address).is_file()


def test_the_page_shows_values_verdicts_data_and_checkpoints(tmp_path: Path) -> None:
    page, _ = make(tmp_path, [value_of(0.9, row="moco-v2"), value_of(math.nan, row="byol")])
    assert "<td>90.00 ± 1.00</td>" in page
    assert "<td>–</td>" in page  # noqa: RUF001
    assert "Outside the tolerance" in page  # printed: 28.69
    assert "<td>1,200</td>" in page
    assert "<td>23,508,032</td>" in page
    assert "<td>0 / 1</td>" in page
    assert "default-src 'none'" in page


def test_every_number_leads_to_its_predictions_and_its_rule(tmp_path: Path) -> None:
    source = Source("released", "moco-v2", "chestx 5-way", "0", "a/predictions.parquet", "5" * 64)
    write_sources(tmp_path / "t.sources.csv", [source])
    makers = json.dumps({"t": "table"})
    extra = ("--sources", str(tmp_path / "t.sources.csv"), "--makers", makers)
    page, _ = make(tmp_path, [value_of(0.7)], extra=extra)
    assert "Made by the rule <code>table</code> from the files below" in page
    assert "<td>a/predictions.parquet</td>" in page
    assert f"<td>{'5' * 64}</td>" in page


def test_a_card_says_what_in_its_labels_is_doubtful(tmp_path: Path) -> None:
    page, _ = make(tmp_path, [value_of(0.7)], cards=({**CARD, "doubts": {"labels <of> it": 1200}},))
    assert "<b>Look at:</b> 1,200 labels &lt;of&gt; it" in page


def test_a_figure_stands_with_its_system_or_among_further_ones(tmp_path: Path) -> None:
    for name in ("ssl_transfer_x.svg", "unknown_y.svg"):
        (tmp_path / name).write_text(PICTURE, encoding="utf-8")
    pictures = [str(tmp_path / name) for name in ("unknown_y.svg", "ssl_transfer_x.svg")]
    page, _ = make(tmp_path, [value_of(0.7)], extra=("--pictures", *pictures))
    own, further = page.index('alt="ssl transfer x"'), page.index('alt="unknown y"')
    assert page.index('<h2 id="ssl-transfer') < own < page.index('<h2 id="further-figures"')
    assert further > page.index('<h2 id="further-figures"')


def test_texts_from_files_cannot_become_markup(tmp_path: Path) -> None:
    card = {**CARD, "counts": {"<script>": {"images": 1, "patients": 1}}}
    certificate = {**CERTIFICATE, "licence": "<script>"}
    row = "<script>alert(1)</script>"
    page, _ = make(tmp_path, [value_of(0.7, row=row)], (card,), (certificate,))
    assert page.count("<script") == 1  # the page's own
    assert "<script>alert" not in page
    assert "&lt;b&gt;NIH&lt;/b&gt;" in page


def test_phantom_is_said_on_page_and_text_exactly_when_something_is(tmp_path: Path) -> None:
    for name, values, card, certificate, expected in (
        ("real", [value_of(0.7)], CARD, CERTIFICATE, False),
        ("values", [value_of(0.7, data="phantom")], CARD, CERTIFICATE, True),
        ("card", [value_of(0.7)], {**CARD, "phantom": True}, CERTIFICATE, True),
        ("weights", [value_of(0.7)], CARD, {**CERTIFICATE, "phantom": True}, True),
    ):
        (tmp_path / name).mkdir()
        page, text = make(tmp_path / name, values, (card,), (certificate,))
        assert ("PHANTOM" in page) == expected, name
        assert ("PHANTOM" in text) == (name == "values"), name


def test_the_text_says_where_to_look_and_fits_a_terminal(tmp_path: Path) -> None:
    rows = ["mimic-chexpert_lr_0.01", "mimic-cxr_d121_lr_1e-4"]
    columns = [f"diabetic_retinopathy {i}-way" for i in range(2, 13)]
    _, text = make(tmp_path, [value_of(0.7, row=r, column=c) for r in rows for c in columns])
    shown = text.splitlines()
    assert shown[0] == "Where to look"
    assert str(tmp_path / "sub/summary.html") in shown[1]
    assert text.count("70.00 ± 1.00") == 22
    assert all(len(line) <= 100 for line in shown if str(tmp_path) not in line)


@given(st.integers(1, 12), st.integers(1, 4), st.sampled_from(["episodes", "patient bootstrap"]))
def test_wide_tables_keep_every_cell_within_the_width(n: int, rows: int, interval: str) -> None:
    values = [
        value_of(0.01 * (i + 1) + 0.001 * j, row=f"r{j}", column=f"c{i} 2-way", interval=interval)
        for i in range(n)
        for j in range(rows)
    ]
    lines = text_block(blocks(values)[0])
    assert all(len(line) <= 100 for line in lines)
    for value in values:
        printed = rf"(?<![\d.]){100 * value.value:.2f} [±\[]"
        assert sum(len(re.findall(printed, line)) for line in lines) == 1


def test_two_runs_of_the_summary_give_equal_bytes(tmp_path: Path) -> None:
    assert make(tmp_path, [value_of(0.7)]) == make(tmp_path, [value_of(0.7)])


@pytest.mark.parametrize(
    ("cards", "certificates", "message"),
    [
        (({"dataset": "x"},), (), "cards0.json: expected the keys flow, phantom, found dataset"),
        ((), ({},), "certificates0.json: expected the keys checkpoint, architecture"),
    ],
)
def test_a_card_without_its_keys_is_refused(
    tmp_path: Path,
    cards: tuple[dict[str, Any], ...],
    certificates: tuple[dict[str, Any], ...],
    message: str,
) -> None:
    with pytest.raises(InputError) as error:
        make(tmp_path, [value_of(0.7)], cards, certificates)
    assert message in str(error.value)


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
@pytest.mark.parametrize("wildcards", [{}, {"table": "t", "dataset": "d", "checkpoint": "c"}])
def test_a_caption_renders_with_and_without_wildcards(
    path: Path, wildcards: dict[str, str]
) -> None:
    from docutils.core import publish_parts
    from jinja2 import Environment, StrictUndefined

    template = Environment(undefined=StrictUndefined, autoescape=True)
    text = template.from_string(path.read_text(encoding="utf-8")).render(
        snakemake={"wildcards": wildcards}
    )
    assert "{" not in text
    settings = {"report_level": 1, "halt_level": 1}  # any remark of docutils is an error
    assert publish_parts(text, writer="html", settings_overrides=settings)["body"]


def test_rules_name_every_caption_and_no_other() -> None:
    sources = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    named = {
        name
        for path in sources
        for name in re.findall(r"captions/(\w+)\.rst", path.read_text(encoding="utf-8"))
    }
    assert named == {path.stem for path in CAPTIONS}


def test_the_ledger_comes_first_with_real_data_and_after_the_systems_with_phantoms(
    tmp_path: Path,
) -> None:
    for data, expected in (("chestx", True), ("phantom", False)):
        page = make(tmp_path, [value_of(0.7, data=data)])[0]
        first = page.index('id="ledger--ours-beside') < page.index('id="ssl_transfer_few_shot"')
        assert first == expected
