"""What the tests do with each command of the documentation: the one table to look at.

A command that fits no line, or more than one, fails a test; so does a line without a command.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from tests.docs.commands import Command


class How(StrEnum):
    """What is done with a command."""

    PLAN = "snakemake parses it and plans its targets, without data (dry run)"
    RUN = "run for real in a folder of its own, see PREPARED in test_commands.py"
    MAKE = "make -n: the target exists and its commands can be worked out"
    OPTIONS = "the module exists and its --help has every option"
    ELSEWHERE = "another test runs the whole page, or the module's command line"
    PARSED = "only read by a shell's parser"


class Treatment(NamedTuple):
    """One line of the table.

    Attributes:
        page: expression that the page's whole path fits.
        command: expression that the command begins with.
        how: what is done.
        why: the test that runs it (ELSEWHERE), or why nothing more is done.
    """

    page: str
    command: str
    how: How
    why: str = ""


STEP = r"python -m workflow_scripts\."
TABLE = (
    Treatment(r".*", r"snakemake (?!--unlock|--lint)", How.PLAN),
    Treatment(
        r"docs/get-started.md", r"\(echo study_id", How.ELSEWHERE, "tests/docs/test_get_started.py"
    ),
    Treatment(r"docs/get-started.md", r"cat ", How.PARSED, "the page's run reads this file"),
    Treatment(r".*", r"make ", How.MAKE),
    Treatment(r".*", r"python -m benchmarks\.", How.OPTIONS, "minutes to hours; make bench"),
    Treatment(r".*", r"(torchrun|srun) ", How.OPTIONS, "needs several processes or SLURM"),
    Treatment(r".*", rf"{STEP}[\w.]+ --help$", How.RUN),
    Treatment(r".*", rf"{STEP}checkpoints\.list$", How.RUN),
    Treatment(
        r"docs/explanation/.*",
        rf"{STEP}(?!report\.)[\w.]+ (?!--help$)",
        How.OPTIONS,
        "a step's words in part; its system's tests run it",
    ),
    Treatment(r".*", rf"{STEP}report\.configuration_page ", How.RUN),
    Treatment(r".*", rf"{STEP}report\.(commands|metrics)_page ", How.RUN),
    Treatment(r".*", rf"{STEP}report\.protocols_page( --out|$)", How.RUN),
    Treatment(r".*", rf"{STEP}report\.doctor$", How.RUN),
    Treatment(r"docs/how-to/add-a-dataset.md", rf"{STEP}datasets\.", How.RUN),
    Treatment(r"docs/how-to/add-a-checkpoint.md", rf"{STEP}checkpoints\.convert ", How.RUN),
    Treatment(r"docs/how-to/one-(table|run).md", rf"{STEP}report\.", How.RUN),
    Treatment(r"docs/how-to/resume.md", rf"{STEP}training\.smoke ", How.RUN),
    Treatment(
        r"docs/how-to/resume.md",
        r"cat ",
        How.PARSED,
        "a state is there while a training is under way",
    ),
    Treatment(r"docs/how-to/run-on-a-cluster.md", rf"{STEP}report\.cost ", How.RUN),
    Treatment(
        r"(?!docs/how-to/run-on-a-cluster).*", rf"{STEP}report\.cost ", How.OPTIONS, "half a minute"
    ),
    Treatment(
        r"docs/how-to/fairer-embedding-api.md",
        rf"{STEP}(?!report\.cost )",
        How.ELSEWHERE,
        "tests/debiased_noise/test_fairer_embedding_api_page.py",
    ),
    Treatment(r".*", r"(source|export|ulimit|cd) ", How.PARSED, "the reader's own shell"),
    Treatment(
        r".*", r"snakemake --(unlock|lint)", How.PARSED, "on a run cut off; test_dry_runs.py"
    ),
    Treatment(r".*", r"(sinfo|sacctmgr|squeue|scancel) ", How.PARSED, "needs SLURM"),
    Treatment(r"CONTRIBUTING.md", r"(ruff|python -m pytest) ", How.PARSED, "tests/style; pytest"),
)


def treatments(command: Command) -> list[Treatment]:
    """Return the lines of the table that a command fits."""
    return [
        one
        for one in TABLE
        if re.fullmatch(one.page, command.page) and re.match(one.command, command.text)
    ]
