"""The overview page: one HTML file that needs no network, for large and small, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from workflow_scripts.report.ledger import OUTSIDE, VERDICTS, count_cells
from workflow_scripts.report.rendering import (
    PHANTOM_WARNING,
    Block,
    cells_of,
    data_of,
    heading,
    legend,
)

Json = Mapping[str, Any]
STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d1d9e0;
  --page: #ffffff; --raised: #f6f8fa; --accent: #0072b2; --warn: #8a3a00; --warnback: #fff1e5; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --line: #3d444d;
  --page: #0d1117; --raised: #151b23; --accent: #56b4e9; --warn: #ffb77c; --warnback: #2d1a0b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { margin-top: 2.5rem; font-size: 1.25rem;
  border-bottom: 1px solid var(--line); padding-bottom: .25rem; } h3 { font-size: 1.05rem; }
a { color: var(--accent); } nav a { margin-right: 1rem; white-space: nowrap; }
.phantom { background: var(--warnback); color: var(--warn); border-left: 4px solid;
  padding: .6rem .9rem; font-weight: 600; }
.scroll { overflow-x: auto; } .soft { color: var(--soft); font-size: .875rem; }
table { border-collapse: collapse; font-size: .875rem; margin: .5rem 0;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--page); }
thead th { white-space: normal; vertical-align: bottom; border-bottom: 2px solid var(--line); }
td.text { text-align: left; white-space: normal; min-width: 8rem; }
tr.chance td { color: var(--soft); font-style: italic; }
figure { margin: 1rem 0; } figure img { width: 100%; max-width: 60rem; background: #fff;
  border-radius: 6px; padding: .5rem; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); }
.card { background: var(--raised); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem 1rem; min-width: 0; } .card h3 { margin: 0 0 .3rem; }
.card td:first-child, .card th:first-child { background: var(--raised); white-space: normal; }
.bar { height: 4px; background: var(--accent); border-radius: 2px; margin-top: 2px; }
code { font-size: .8rem; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the page.

    Attributes:
        table: its name.
        blocks: what it shows.
        links: label and address of its files.
        figure: its picture as SVG; empty without one.
    """

    table: str
    blocks: tuple[Block, ...]
    links: tuple[tuple[str, str], ...]
    figure: bytes


def page(
    sections: Sequence[Section],
    ledger: Sequence[Mapping[str, str]],
    ledger_link: str,
    cards: Sequence[Json],
    certificates: Sequence[Json],
) -> str:
    """Return the whole page.

    Args:
        sections: the tables.
        ledger: the lines of the ledger's CSV file.
        ledger_link: address of that file.
        cards: data cards.
        certificates: of the checkpoints.
    """
    is_phantom = any(block.is_phantom for s in sections for block in s.blocks) or any(
        content.get("phantom") for content in (*cards, *certificates)
    )
    names = [("tables", "Tables"), ("ledger", "Ledger"), ("data", "Data")]
    names += [("checkpoints", "Checkpoints")] * bool(certificates)
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in names)
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Steadfast: results{' (PHANTOM)' * is_phantom}</title>",
        f"<style>{STYLE}</style></head><body>",
        "<h1>Steadfast: results</h1>",
        f'<p class="phantom">{escape(PHANTOM_WARNING)}</p>' * is_phantom,
        f"<nav>{links}</nav>",
        '<h2 id="tables">Tables</h2>',
        *(table_section(section) for section in sections),
        '<h2 id="ledger">Ledger: ours beside the printed values</h2>',
        ledger_section(ledger, ledger_link),
        '<h2 id="data">Data</h2>',
        f'<div class="cards">{"".join(map(data_card, cards))}</div>',
    ]
    if certificates:
        parts += ['<h2 id="checkpoints">Checkpoints</h2>', certificate_table(certificates)]
    return "\n".join([*filter(None, parts), "</body></html>"]) + "\n"


def grid(head: Sequence[str], lines: Sequence[str]) -> str:
    """Return a table that scrolls by itself; `head` is plain text, `lines` are rows of HTML."""
    cells = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def row(cells: Sequence[str], kind: str = "") -> str:
    """Return one row of a table from plain texts."""
    mark = f' class="{kind}"' if kind else ""
    return f"<tr{mark}>{''.join(f'<td>{escape(text)}</td>' for text in cells)}</tr>"


def table_section(section: Section) -> str:
    """Return one table: a grid a protocol, the picture, the files."""
    parts = [f"<h3>{escape(section.table)}</h3>"]
    for block in section.blocks:
        parts += [
            f"<p>Protocol: <strong>{escape(block.protocol)}</strong></p>",
            block_grid(block),
            f'<p class="soft">{escape(legend(block))}</p>',
        ]
    if section.figure:
        picture = base64.b64encode(section.figure).decode()
        label = escape(f"{section.table}: one panel a column, one dot a checkpoint")
        parts.append(
            f'<figure><img alt="{label}" src="data:image/svg+xml;base64,{picture}"></figure>'
        )
    links = "".join(f'<a href="{escape(to)}">{escape(name)}</a> ' for name, to in section.links)
    return "\n".join([*parts, f"<p>Files: {links}</p>"])


def block_grid(block: Block) -> str:
    """Return the grid of one protocol."""
    data = ["data"] * block.is_phantom
    lines = []
    for name in block.rows:
        cells = [f"<td>{escape(name)}</td>"]
        for text, bold in cells_of(block, name):
            cells.append(f"<td><b>{escape(text)}</b></td>" if bold else f"<td>{escape(text)}</td>")
        cells += [f"<td>{data_of(block, name)}</td>"] * len(data)
        lines.append(f"<tr>{''.join(cells)}</tr>")
    if any(block.chance):
        lines.append(row(["chance level", *block.chance, *[""] * len(data)], "chance"))
    return grid([block.row_title, *map(heading, block.columns), *data], lines)


def ledger_section(ledger: Sequence[Mapping[str, str]], link: str) -> str:
    """Return the counts of the verdicts and the numbers that were not reproduced."""
    counts = count_cells((key_of(line), line["verdict"]) for line in ledger)
    lines = [
        row([table, *(str(count[verdict]) for verdict in VERDICTS), str(count.total())])
        for table, count in counts.items()
    ]
    parts = [grid(["printed table", *VERDICTS, "cells"], lines)]
    outside = [line for line in ledger if line["verdict"] == OUTSIDE]
    if outside:
        names = ("table", "row", "column", "published", "ours", "tolerance", "note")
        shown = [row([line[name] for name in names]) for line in outside]
        parts += ["<h3>Outside the tolerance</h3>", grid(names, shown)]
    return "\n".join([*parts, f'<p>Every cell: <a href="{escape(link)}">{escape(link)}</a></p>'])


def key_of(line: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    """Return what a line of the ledger is about."""
    return line["system"], line["table"], line["row"], line["column"], line["metric"]


def data_card(card: Json) -> str:
    """Return one data set: terms, what was left after each filter, what each split holds."""
    facts = [
        f"<b>{name}:</b> {escape(str(card[key]))}"
        for name, key in (
            ("Licence", "licence"), ("Access", "access"), ("Labels", "label_policy"),
            ("Split", "split_policy"), ("Source", "source"), ("Cite", "citation"),
        )
        if card.get(key)
    ]  # fmt: skip
    warning = '<p class="phantom">PHANTOM</p>' if card.get("phantom") else ""
    return (
        f'<section class="card"><h3>{escape(str(card["dataset"]))}</h3>{warning}'
        f"<p>{escape(str(card.get('title', '')))}</p>{flow(card['flow'])}{splits(card)}"
        f'<p class="soft">{"<br>".join(facts)}</p></section>'
    )


def flow(steps: Sequence[Json]) -> str:
    """Return what was left after each filter, with a bar as long as its share of the start."""
    first = max(int(steps[0]["images"]), 1) if steps else 1
    lines = [
        f"<tr><td>{escape(str(step['step']))}"
        f'<div class="bar" style="width:{100 * int(step["images"]) / first:.1f}%"></div></td>'
        f"<td>{int(step['images']):,}</td><td>{int(step['patients']):,}</td></tr>"
        for step in steps
    ]
    return grid(["left after", "images", "patients"], lines)


def splits(card: Json) -> str:
    """Return images and patients of each split."""
    lines = [
        row([name, f"{int(count['images']):,}", f"{int(count['patients']):,}"])
        for name, count in card.get("counts", {}).items()
    ]
    return grid(["split", "images", "patients"], lines) if lines else ""


def certificate_table(certificates: Sequence[Json]) -> str:
    """Return one line a checkpoint: what it is, where from, that no key is missing or left over."""
    lines = []
    for content in certificates:
        source = content.get("source") or {}
        weights = "PHANTOM" if content.get("phantom") else "pretrained"
        if not content.get("phantom") and not content.get("pretrained"):
            weights = "seeded, untrained"
        unmatched = f"{len(content['missing'])} / {len(content['unexpected'])}"
        cells = [
            str(content["checkpoint"]), str(content["architecture"]),
            f"{int(content['parameters']):,}", weights, unmatched,
            str(source.get("file") or source.get("name") or ""),
            str(content["backbone_sha256"])[:12], str(content.get("licence") or ""),
        ]  # fmt: skip
        lines.append(row(cells))
    head = ("checkpoint", "architecture", "parameters", "weights", "keys missing / left over",
            "source file", "backbone sha256", "licence")  # fmt: skip
    return grid(head, lines)
