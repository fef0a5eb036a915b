"""Step: write the reference page of the configuration from `config.yaml` and the schemas."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from workflow_scripts.checkpoints.options import CheckpointOptions
from workflow_scripts.command_line import run
from workflow_scripts.datasets.layout import COMMON_OPTIONS, layout_named, layout_names
from workflow_scripts.files import write_text
from workflow_scripts.report.config_comments import Keys, comments
from workflow_scripts.report.knobs import NEEDED, NOT_SET, OF_LIST, Knob, Sources, knobs, shown
from workflow_scripts.settings import MAIN_SCHEMA, read_schema

HEAD = """\
# Configuration: every knob

Made from `config.yaml` and `rules/schemas/`; do not edit it by hand but run

```bash
python -m workflow_scripts.report.configuration_page --config config.yaml --schemas rules/schemas \\
  --out docs/reference/configuration.md
```

`config.yaml` is the published plan. Leave it as it is: write what you want otherwise into a file
of your own and lay it on top.

```yaml
# mine.yaml
ssl_transfer: {few_shot: {protocols: [corrected], seeds: [0, 1, 2]}}
```

```bash
snakemake -n --profile profiles/local --configfile mine.yaml -- \\
  results/tables/ssl_transfer_few_shot.csv
```

- Maps are merged key by key, lists are replaced.
- Everything is checked before anything runs. A wrong key or value is refused with its file, its
  name and the nearest valid one.
- A changed value reruns only what depends on it.
- `<name>` stands for a name of your choice, `[]` for each entry of a list. A `needed` key has no
  default. Sections are those of the system's specification; `ours` is a choice of this project.
"""
GENERAL = "The whole workflow"
TITLES = {
    "crocodile": "CROCODILE",
    "ssl_transfer": "SSL transfer",
    "cooperative_training": "Cooperative training",
    "layer_ensembles": "Layer ensembles",
    "debiased_noise": "Debiased noise",
}
KNOB_COLUMNS = ("knob", "type", "unit", "default", "allowed", "meaning", "source")
OPTION = re.compile(r"^    (\w+): [^#\n]*(?:#\s*(?P<words>.*))?$", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    import yaml

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.yaml, with its comments")
    parser.add_argument("--schemas", type=Path, required=True, help="folder of the JSON schemas")
    parser.add_argument("--out", type=Path, required=True, help="the page to write (.md)")
    given = parser.parse_args(arguments)
    text = given.config.read_text(encoding="utf-8")
    sources = Sources(read_schema(given.schemas), comments(text))
    write_text(given.out, page(yaml.safe_load(text), sources, systems_of(given.schemas)))


def systems_of(schemas: Path) -> list[str]:
    """Return the systems: each has a schema of its own."""
    names = {file.name.removesuffix(".schema.yaml") for file in schemas.glob("*.schema.yaml")}
    return sorted(names - {MAIN_SCHEMA.removesuffix(".schema.yaml")}, key=list(TITLES).index)


def page(config: Mapping[str, Any], sources: Sources, systems: Sequence[str]) -> str:
    """Return the page as Markdown.

    Args:
        config: the published configuration.
        sources: its schema and comments.
        systems: the sections that systems own, in the order of the page.
    """
    parts = [HEAD, f"## {GENERAL}\n", knob_table(general_knobs(config, sources, systems))]
    for system in systems:
        parts += [f"## {TITLES[system]}: `{system}`\n", *said_of(sources, (system,))]
        parts += step_tables(sources, list(section_knobs(config, sources, system)))
    parts += [dataset_part(config, sources.said), checkpoint_part()]
    return "\n".join(parts)


def said_of(sources: Sources, keys: Keys) -> list[str]:
    """Return a section's own comment as a sentence, if it has one."""
    comment = sources.said.get(keys, "")
    return [f"{comment[0].upper()}{comment[1:]}.\n"] if comment else []


def step_tables(sources: Sources, found: Sequence[Knob]) -> list[str]:
    """Return a system's knobs: its own in one table, those of each step in one more."""
    own = [one for one in found if len(one.keys) == 2 or one.keys[2] == OF_LIST]
    steps = dict.fromkeys(one.keys[:2] for one in found if one not in own)
    parts = [knob_table(own)]
    for keys in steps:
        parts += [f"### `{'.'.join(keys)}`\n", *said_of(sources, keys)]
        parts.append(knob_table(one for one in found if one not in own and one.keys[:2] == keys))
    return parts


def general_knobs(
    config: Mapping[str, Any], sources: Sources, systems: Sequence[str]
) -> Iterator[Knob]:
    """Yield the knobs outside the systems' sections, data sets and checkpoints."""
    for name in sources.root["properties"]:
        if name not in (*systems, "datasets", "checkpoints"):
            yield from section_knobs(config, sources, name)


def section_knobs(config: Mapping[str, Any], sources: Sources, name: str) -> Iterator[Knob]:
    """Yield the knobs of one section."""
    yield from knobs(sources, (name,), sources.root["properties"][name], config.get(name))


def knob_table(found: Iterable[Knob]) -> str:
    """Return knobs as a table."""
    rows = (
        (f"`{knob.name}`", knob.kind, knob.unit, code(knob.default), *words_of(knob))
        for knob in found
    )
    return table(KNOB_COLUMNS, rows)


def words_of(knob: Knob) -> tuple[str, str, str]:
    """Return what is in a knob's last three columns."""
    return knob.allowed, knob.meaning, knob.source


def code(value: str) -> str:
    """Return a default as code, and words about it as words."""
    return value if value in (NOT_SET, NEEDED) or value.endswith("entries") else f"`{value}`"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    cells = (" | ".join(cell.replace("|", r"\|") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in cells).replace("|  |", "| |") + "\n"


def dataset_part(config: Mapping[str, Any], said: Mapping[Keys, str]) -> str:
    """Return what an entry of `datasets` may say, and the entries of the published plan."""
    own = [
        (f"`{name}`", f"`{option}`", allowed(layout_named(name).choices.get(option)), words)
        for name in layout_names()
        for option, words in layout_named(name).options.items()
    ]
    policies = [
        (f"`{name}`", ", ".join(f"`{one}`" for one in layout_named(name).policies))
        for name in layout_names()
    ]
    entries = [
        (f"`{name}`", f"`{entry['layout']}`", said.get(("datasets", name), ""), options_of(entry))
        for name, entry in config["datasets"].items()
    ]
    common = [(f"`{option}`", words) for option, words in COMMON_OPTIONS.items()]
    return "\n".join(
        [
            "## Data sets: `datasets.<name>`\n",
            "What each means: [data sets](datasets.md); your own: [add a data set]"
            "(../how-to/add-a-dataset.md). Every layout takes these options:\n",
            table(("option", "meaning"), common),
            "Label policies; the first is the default:\n",
            table(("layout", "`label_policy`"), policies),
            "Options of one layout:\n",
            table(("layout", "option", "allowed", "meaning"), own),
            "The published plan:\n",
            table(("name", "layout", "what", "options"), entries),
        ]
    )


def allowed(choices: Sequence[str] | None) -> str:
    """Return the values of an option that has few."""
    return ", ".join(f"`{one}`" for one in choices or ())


def options_of(entry: Mapping[str, Any]) -> str:
    """Return an entry's options but its layout."""
    return "; ".join(f"`{key}: {shown(one)}`" for key, one in entry.items() if key != "layout")


def checkpoint_part() -> str:
    """Return what an entry of `checkpoints` may say; its class has the words."""
    words = {match[1]: match["words"] or "" for match in OPTION.finditer(_source())}
    rows = []
    for one in fields(CheckpointOptions):
        default = NEEDED if one.default is MISSING else str(one.default or "none")
        rows.append((f"`{one.name}`", default, words[one.name]))
    return "\n".join(
        [
            "## Checkpoints: `checkpoints.<name>`\n",
            "The published ones: [checkpoints](checkpoints.md); your own: [add a checkpoint]"
            "(../how-to/add-a-checkpoint.md).\n",
            table(("option", "default", "meaning"), rows),
        ]
    )


def _source() -> str:
    return inspect.getsource(CheckpointOptions)


if __name__ == "__main__":
    sys.exit(run(main))
