"""Parts of the overview page: data cards, checkpoints, provenance, what the rules cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from workflow_scripts.report.html import details, grid, photograph, row, texts
from workflow_scripts.report.job_costs import RuleCost
from workflow_scripts.report.provenance import described

Json = Mapping[str, Any]


def data_card(card: Json, sheet: Path | None) -> str:
    """Return one data set: terms, what was left after each filter, splits, some of its images."""
    facts = [
        f"<b>{name}:</b> {escape(str(card[key]))}"
        for name, key in (
            ("Licence", "licence"), ("Access", "access"), ("Labels", "label_policy"),
            ("Split", "split_policy"), ("Source", "source"), ("Cite", "citation"),
        )
        if card.get(key)
    ]  # fmt: skip
    facts += [
        f"<b>Look at:</b> {int(n):,} {escape(what)}" for what, n in card.get("doubts", {}).items()
    ]
    name = str(card["dataset"])
    warning = '<p class="phantom">PHANTOM</p>' if card.get("phantom") else ""
    shown = details("Some of its images", photograph(sheet, f"{name}: images")) if sheet else ""
    return (
        f'<section class="card"><h3>{escape(name)}</h3>{warning}'
        f"<p>{escape(str(card.get('title', '')))}</p>{flow(card['flow'])}{splits(card)}"
        f'<p class="soft">{"<br>".join(facts)}</p>{shown}</section>'
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


def provenance_table(content: Json) -> str:
    """Return what made the results."""
    return texts(["what", "which"], described(content))


def cost_table(costs: Sequence[RuleCost]) -> str:
    """Return what each rule used, and all together."""
    lines = [
        row([
            cost.rule, f"{cost.jobs:,}", f"{cost.seconds:,.1f}", f"{cost.longest_s:,.1f}",
            "" if cost.memory_mb is None else f"{cost.memory_mb:,.0f}",
        ])
        for cost in costs
    ]  # fmt: skip
    jobs, seconds = sum(cost.jobs for cost in costs), sum(cost.seconds for cost in costs)
    total = row(["all, one after another", f"{jobs:,}", f"{seconds:,.1f}", "", ""])
    return grid(["rule", "jobs", "seconds", "longest job (s)", "peak memory (MB)"], lines, total)
