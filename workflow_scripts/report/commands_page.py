"""Step: write the reference page of the commands: targets, and every step by hand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from workflow_scripts.command_line import run
from workflow_scripts.files import write_text

PACKAGE = Path(__file__).resolve().parents[1]
OTHERS = ("command_line", "warm")  # shows the line as an example; forks steps, takes their words
IS_A_STEP = 'if __name__ == "__main__":'
HEAD = """\
# Commands

Made from the steps' own command lines; do not edit it by hand but run

```bash
python -m workflow_scripts.report.commands_page --out docs/reference/commands.md
```

## Targets of the workflow

```bash
snakemake -n --profile profiles/local all check    # -n: the plan only
```

A target is made with what it needs and nothing else. Any file of [files](files.md) is one too, and
so is any of these:

| target | what it makes |
|---|---|
| `all` | tables, figures and contact sheets of every system in `systems`, ledger, overview |
| `crocodile` and every other name in `systems` | one system |
| `report` | all, and one HTML file that opens without network |
| `check` | prints which data sets and weights are here, and what to do about the others |
| `stage` | downloads the weights; nothing else needs the network |
| `experiments` | leak certificates over the data sets of each experiment; near duplicates |
| `training_smoke` | a small training that proves a machine |

## Steps by hand

Every rule is one call of a module below `workflow_scripts` (`python -m`), with every path as an
argument. Bad input is refused with where, expected, found and what to do, and ends with status 1;
a training that saved and was not finished ends with 75.
"""


class _CaughtError(Exception):
    """Carries a parser out of a step that was about to parse."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the page to write (.md)")
    out = parser.parse_args(arguments).out
    write_text(out, "\n".join([HEAD, *(section(name) for name in step_names())]))


def step_names() -> list[str]:
    """Return every module of the package that is a command, such as `datasets.manifest`."""
    files = sorted(PACKAGE.rglob("*.py"))
    own = [file for file in files if f"\n{IS_A_STEP}" in file.read_text(encoding="utf-8")]
    names = (".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in own)
    return [name for name in names if name not in OTHERS]


def section(name: str) -> str:
    """Return one step: what it does, and its arguments as a table."""
    module = import_module(f"workflow_scripts.{name}")
    lines = [f"### `{name}`", "", first_sentence(module.__doc__ or ""), ""]
    for words, parser in with_subcommands(parser_of(module.main)):
        lines += [f"`{words}`:", ""] if words else []
        rows = [row(action) for action in documented(parser)]
        lines += ["| argument | | meaning |", "|---|---|---|", *rows, ""] if rows else []
    return "\n".join(lines)


def first_sentence(text: str) -> str:
    """Return the first paragraph of a docstring in one line.

    >>> first_sentence("Step: make\\nit.\\n\\nMore.")
    'Step: make it.'
    """
    return " ".join(text.strip().split("\n\n")[0].split())


def parser_of(step: Callable[[Sequence[str]], object]) -> argparse.ArgumentParser:
    """Return the parser that a step makes, without running the step."""

    def catch(parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        raise _CaughtError(parser)

    plain = argparse.ArgumentParser.parse_known_args
    argparse.ArgumentParser.parse_known_args = catch  # type: ignore[method-assign, assignment]
    try:
        step([])
    except _CaughtError as caught:
        return caught.parser
    finally:
        argparse.ArgumentParser.parse_known_args = plain  # type: ignore[method-assign]
    raise ValueError(f"{step.__module__} parses no command line")


def with_subcommands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield a parser, and those of its subcommands with their names."""
    yield "", parser
    for action in parser._actions:  # argparse has no public list
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def documented(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments of a parser but `--help` and the choice of a subcommand."""
    passed_over = (argparse._HelpAction, argparse._SubParsersAction)
    return [action for action in parser._actions if not isinstance(action, passed_over)]


def row(action: argparse.Action) -> str:
    """Return one argument as a line of the table."""
    names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    choices = f"; one of {', '.join(map(str, action.choices))}" if action.choices else ""
    words = f"{str(action.help or '').strip()}{choices}".replace("|", r"\|").replace("%%", "%")
    return f"| `{names}` | {need_of(action)} | {' '.join(words.split())} |"


def need_of(action: argparse.Action) -> str:
    """Return whether an argument is needed, or its default."""
    if action.required:
        return "needed"
    is_plain = isinstance(action.default, (str, int, float, Path))
    is_told = is_plain and not isinstance(action.default, bool) and str(action.default) != ""
    return f"`{action.default}`" if is_told else ""


if __name__ == "__main__":
    sys.exit(run(main))
