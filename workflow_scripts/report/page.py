"""The overview page: one HTML file that needs no network, for large and small, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from workflow_scripts.report.html import anchor, details, grid, photograph, picture, row, texts
from workflow_scripts.report.job_costs import RuleCost
from workflow_scripts.report.ledger import OUTSIDE, VERDICTS, count_cells
from workflow_scripts.report.page_assets import SCRIPT, STYLE
from workflow_scripts.report.page_data import (
    Json,
    certificate_table,
    cost_table,
    data_card,
    provenance_table,
)
from workflow_scripts.report.rendering import (
    PHANTOM_WARNING,
    Block,
    cells_of,
    data_of,
    heading,
    legend,
)
from workflow_scripts.report.sources import Source
from workflow_scripts.report.trust_cells import Grid

SYSTEM_TITLES = {  # a system that is not named here appears under its own name
    "crocodile": "CROCODILE: does a causal classifier lose less when the hospital changes?",
    "ssl_transfer": "SSL transfer: which pretrained backbone serves which medical data set?",
    "cooperative_training": "Cooperative training: does a segmenter survive other scanners?",
    "layer_ensembles": "Layer Ensembles: which segmentations should one distrust?",
    "debiased_noise": "Debiased noise: can a frozen foundation model be made fairer?",
    "trust_matrix": "Trust matrix: what the five papers never did together",
}
LEDGER_HEAD = (
    "table", "row", "column", "metric", "published", "ours", "ours_low", "ours_high",
    "ours_seed_std", "difference", "tolerance", "verdict", "reason",
    "granularity", "could_explain", "note",
)  # fmt: skip
LEDGER_TITLE = "Ledger: ours beside the printed values"
# what a page may do, whatever stands in it: nothing comes from anywhere else
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the page.

    Attributes:
        system, table: their names.
        blocks: what it shows.
        links: label and address of its files.
        figure: its picture; None without one.
        rule: the rule that made it; empty where it is not known.
        sources: its predictions; empty for a table that is made from other tables.
        grid: headings and rows that a reader sees below the picture, before the blocks; or None.
        note: what the grid's marks mean.
    """

    system: str
    table: str
    blocks: tuple[Block, ...]
    links: tuple[tuple[str, str], ...]
    figure: Path | None
    rule: str = ""
    sources: tuple[Source, ...] = ()
    grid: Grid | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that the page shows.

    Attributes:
        sections: the tables, in the order of the systems.
        ledger: the lines of the ledger's CSV file.
        ledger_link: address of that file.
        cards: data cards, with the picture of some of their images.
        certificates: of the checkpoints.
        pictures: further figures of the systems.
        provenance: what made the results; None where it is not known.
        costs: what the rules used.
        rule_graph: a drawing of which rule feeds which; None without one.
    """

    sections: tuple[Section, ...]
    ledger: tuple[Mapping[str, str], ...]
    ledger_link: str
    cards: tuple[tuple[Json, Path | None], ...] = ()
    certificates: tuple[Json, ...] = ()
    pictures: tuple[Path, ...] = ()
    provenance: Json | None = None
    costs: tuple[RuleCost, ...] = ()
    rule_graph: Path | None = None

    @property
    def is_phantom(self) -> bool:
        """Whether anything was made from synthetic patients or weights."""
        described = (*(card for card, _ in self.cards), *self.certificates)
        return any(b.is_phantom for s in self.sections for b in s.blocks) or any(
            one.get("phantom") for one in described
        )


def page(content: Content) -> str:
    """Return the whole page."""
    parts = parts_of(content)
    title = f"Steadfast: results{' (PHANTOM)' * content.is_phantom}"
    lines = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}</style></head><body>",
        "<h1>Steadfast: results</h1>",
        f'<p class="phantom">{escape(PHANTOM_WARNING)}</p>' * content.is_phantom,
        contents_list(content.sections, parts),
        *(f'<h2 id="{anchor(name)}">{escape(name)}</h2>\n{text}' for name, text in parts.items()),
        f"<script>{SCRIPT}</script></body></html>",
    ]
    return "\n".join(filter(None, lines)) + "\n"


def parts_of(content: Content) -> dict[str, str]:
    """Return the parts of the page by their titles; a part without content is left out."""
    systems = dict.fromkeys(section.system for section in content.sections)
    parts = {title_of(system): system_part(system, content) for system in systems}
    ledger = {LEDGER_TITLE: ledger_part(content.ledger, content.ledger_link)}
    # of real data the ledger is what one looks for first; of phantoms it says nothing
    parts = parts | ledger if content.is_phantom else ledger | parts
    others = [path for path in content.pictures if not path.name.startswith(tuple(systems))]
    parts["Further figures"] = picture_grid(others)
    cards = "".join(data_card(card, sheet) for card, sheet in content.cards)
    parts["Data"] = f'<div class="cards">{cards}</div>' if cards else ""
    if content.certificates:
        parts["Checkpoints"] = certificate_table(content.certificates)
    if content.costs:
        parts["What the rules cost"] = cost_table(content.costs)
    if content.rule_graph:
        parts["Which rule feeds which"] = picture(content.rule_graph, "The demo's rules")
    if content.provenance:
        parts["What made these results"] = provenance_table(content.provenance)
    return {name: text for name, text in parts.items() if text}


def title_of(system: str) -> str:
    """Return what the page calls a system."""
    return SYSTEM_TITLES.get(system, system)


def contents_list(sections: Sequence[Section], parts: Mapping[str, str]) -> str:
    """Return the list of what is on the page; the tables stand below their system."""
    lines = []
    for name in parts:
        tables = [section.table for section in sections if title_of(section.system) == name]
        links = "".join(f'<li><a href="#{escape(one)}">{escape(one)}</a></li>' for one in tables)
        below = f"<ul>{links}</ul>" if links else ""
        lines.append(f'<li><a href="#{anchor(name)}">{escape(name)}</a>{below}</li>')
    return f'<nav aria-label="Contents"><ul>{"".join(lines)}</ul></nav>'


def system_part(system: str, content: Content) -> str:
    """Return the tables and the figures of one system."""
    own = [one for one in content.sections if one.system == system]
    tables = [table_section(one, is_first=one == own[0]) for one in own]
    pictures = [path for path in content.pictures if path.name.startswith(f"{system}_")]
    if pictures:
        tables += ["<h3>Figures</h3>", picture_grid(pictures)]
    return "\n".join(tables)


def picture_grid(paths: Sequence[Path]) -> str:
    """Return figures side by side where there is room."""
    shown = "".join(
        (picture if path.suffix == ".svg" else photograph)(path, path.stem.replace("_", " "))
        for path in paths
    )
    return f'<div class="pictures">{shown}</div>' if shown else ""


def table_section(section: Section, is_first: bool) -> str:
    """Return one table: a grid a protocol, the picture, the files it is from and is in.

    Args:
        section: the table.
        is_first: of its system; its picture is open.
    """
    parts = [f'<h3 id="{escape(section.table)}">{escape(section.table)}</h3>']
    numbers = "".join(
        f"<p>Protocol: <strong>{escape(block.protocol)}</strong></p>{block_grid(block)}"
        f'<p class="soft">{escape(legend(block))}</p>'
        for block in section.blocks
    )
    if section.grid:
        drawn = picture(section.figure, section.table) if section.figure else ""
        note = f'<p class="soft">{escape(section.note)}</p>'
        parts += [
            f'<div class="scroll wide" tabindex="0">{drawn}</div>',
            note,
            texts(*section.grid),
        ]
        numbers = details("Every number", numbers)
    parts.append(numbers)
    if section.figure and not section.grid:
        label = f"{section.table}: one panel a column, one dot a row"
        parts.append(details("Picture", picture(section.figure, label), is_first))
    links = "".join(f'<a href="{escape(to)}">{escape(name)}</a> ' for name, to in section.links)
    parts.append(f"<p>Files: {links}</p>")
    if section.rule:
        parts.append(f'<p class="soft">{origin_text(section)}</p>')
    if section.sources:
        title = f"Files behind these numbers: {len(section.sources)}"
        parts.append(details(title, texts(Source._fields, section.sources)))
    return "\n".join(parts)


def origin_text(section: Section) -> str:
    """Return how one would make a table again."""
    again = f"snakemake --profile ... {section.links[0][1]}" if section.links else ""
    origin = "from the files below" if section.sources else "from other tables of this page"
    return f"Made by the rule <code>{escape(section.rule)}</code> {origin}: " + (
        f"<code>{escape(again)}</code>" if again else ""
    )


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
    chance = row(["chance level", *block.chance, *[""] * len(data)]) if any(block.chance) else ""
    return grid([block.row_title, *map(heading, block.columns), *data], lines, chance)


def ledger_part(ledger: Sequence[Mapping[str, str]], link: str) -> str:
    """Return the counts of the verdicts, what was not reproduced, and every cell."""
    counts = count_cells((key_of(line), line["verdict"]) for line in ledger)
    lines = [
        row([table, *(str(count[verdict]) for verdict in VERDICTS), str(count.total())])
        for table, count in counts.items()
    ]
    parts = [grid(["printed table", *VERDICTS, "cells"], lines)]
    outside = [line for line in ledger if line["verdict"] == OUTSIDE]
    if outside:
        parts += ["<h3>Outside the tolerance</h3>", ledger_grid(outside)]
    parts.append(details(f"Every cell: {len(ledger)} lines", ledger_grid(ledger)))
    return "\n".join([*parts, f'<p>As a file: <a href="{escape(link)}">{escape(link)}</a></p>'])


def ledger_grid(lines: Sequence[Mapping[str, str]]) -> str:
    """Return some lines of the ledger."""
    return texts(LEDGER_HEAD, [[line[name] for name in LEDGER_HEAD] for line in lines])


def key_of(line: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    """Return what a line of the ledger is about."""
    return line["system"], line["table"], line["row"], line["column"], line["metric"]
