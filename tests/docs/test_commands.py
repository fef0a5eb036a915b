"""Every command of the documentation is executed, each in the way that treatment.py says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.conftest import RunSnakemake
from tests.docs.commands import Command, every_command
from tests.docs.treatment import TABLE, How, treatments
from tests.workflow.test_dry_runs import PROFILES, TARGETS
from workflow_scripts.command_line import run
from workflow_scripts.predictions import CASE_COLUMNS, METADATA_NAMES, write_predictions
from workflow_scripts.report import cost
from workflow_scripts.report.doctor import merged
from workflow_scripts.report.planned_jobs import plan_jobs

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = every_command(ROOT)
SHARED = ("Snakefile", "config.yaml", "rules", "profiles", "workflow_scripts", "envs")
DONE: set[str] = set()
FAULT = 1  # what the doctor ends with where something is missing, as on a machine without SLURM


def of(how: How) -> list[Command]:
    return [one for one in COMMANDS if [line.how for line in treatments(one)] == [how]]


def test_every_command_has_one_treatment() -> None:
    wrong = {str(one): [line.how.name for line in treatments(one)] for one in COMMANDS}
    wrong = {one: found for one, found in wrong.items() if len(found) != 1}
    assert not wrong, "give each a line in tests/docs/treatment.py"


def test_every_treatment_is_needed() -> None:
    used = Counter(line for one in COMMANDS for line in treatments(one))
    assert [line for line in TABLE if not used[line]] == []
    for line in TABLE:
        assert line.why or line.how not in (How.PARSED, How.ELSEWHERE), line


def test_commands_stand_in_fenced_blocks() -> None:
    """Otherwise nobody would collect them."""
    indented = re.compile(r"^ {4}(python|snakemake|make|torchrun|srun|git) ", re.MULTILINE)
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name != "benchmarks.md":
            assert not indented.search(page.read_text(encoding="utf-8")), page


def test_commands_that_are_only_parsed_are_right_for_a_shell() -> None:
    for one in of(How.PARSED):
        done = subprocess.run(["bash", "-n", "-c", one.text], capture_output=True, check=False)
        assert done.returncode == 0, one


def test_pages_run_elsewhere_have_a_test_that_runs_them() -> None:
    for one in of(How.ELSEWHERE):
        test = (ROOT / treatments(one)[0].why).read_text(encoding="utf-8")
        module = one.words[2].rsplit(".", maxsplit=1)[-1]
        assert Path(one.page).name in test or f"{module}.main(" in test, one


# Snakemake: parsed by its own parser, planned with the same profile and configuration


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], list[str]]:
    """Options of a dry run -> targets, over all commands that differ in their targets alone.

    Without an overlay, what test_dry_runs.py plans for every profile is not planned again.
    """
    from snakemake.cli import parse_args

    folder = tmp_path_factory.mktemp("overlays")
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    os.chdir(ROOT)
    for number, one in enumerate(of(How.PLAN)):
        _, given = parse_args(one.words[1:])
        assert given.profile, f"{one}: without a profile Snakemake asks for --cores"
        words = ["--profile", *given.profile]
        asked = [word for word in one.words if word.endswith(".yaml")]
        if asked and all((ROOT / word).is_file() for word in asked):
            words += ["--configfile", *asked]
        elif asked:
            overlay = folder / f"{number}.yaml"
            overlay.write_text(one.overlay, encoding="utf-8")
            words += ["--configfile", str(overlay)]
            same = [key for key in found if "--configfile" in key and key[:2] == tuple(words[:2])
                    and Path(key[-1]).read_text() == one.overlay]  # fmt: skip
            words = list(same[0]) if same else words
        elsewhere = TARGETS if given.profile[0].removeprefix("profiles/") in PROFILES else []
        planned_there = set(elsewhere) if words[2:] == [] else set()
        found[tuple(words)] += [one for one in given.targets if one not in planned_there]
    return {words: targets for words, targets in found.items() if targets}


def test_every_snakemake_command_can_be_planned(
    plans: dict[tuple[str, ...], list[str]], snakemake: RunSnakemake
) -> None:
    for options, targets in plans.items():
        wanted = list(dict.fromkeys(targets))
        assert wanted, options
        done = snakemake("-n", "-F", "-q", "all", "--nolock", *wanted, *options)
        assert done.returncode == 0, (
            f"{options} {wanted}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )


# make, and modules whose runs take too long


def test_every_make_command_can_be_worked_out() -> None:
    for text in sorted({one.text for one in of(How.MAKE)}):
        words = ["make", "--dry-run", *shlex.split(text)[1:]]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, text + done.stderr


def help_of(module: str) -> str:
    said = StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as ended:
        import_module(module).main(["--help"])
    assert ended.value.code == 0, module
    return said.getvalue()


def test_options_of_commands_that_take_too_long_exist() -> None:
    for one in of(How.OPTIONS):
        module, *arguments = one.words[one.words.index("-m") + 1 :]
        text = help_of(module)
        for word in arguments:
            if word.startswith("--"):
                assert re.search(rf"{word}\b", text), f"{one}: no {word}"


# Run for real


def nothing(_: Path, __: Command, ___: pytest.MonkeyPatch) -> None:
    """The page's commands need nothing."""


def tiny_plan(folder: Path, _: Command, patch: pytest.MonkeyPatch) -> None:
    """The forecast of the page on clusters, of a plan of a few jobs instead of the published."""
    published, tiny = (
        yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
        for name in ("config.yaml", "tests/workflow/tiny.yaml")
    )
    tiny["pathvars"] = {"results": "results/demo"}  # phantoms never lie among real results
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").write_text(yaml.safe_dump(merged(published, tiny)), encoding="utf-8")
    patch.setattr(cost, "plan_jobs", partial(plan_jobs, folder=folder))


def our_hospital(folder: Path, _: Command, __: pytest.MonkeyPatch) -> None:
    """The table and the images of the page on data sets."""
    page = (ROOT / "docs/how-to/add-a-dataset.md").read_text(encoding="utf-8")
    csv = re.search(r"```\n(file,.*?)```", page, re.DOTALL)
    assert csv
    (folder / "data/our_hospital/images").mkdir(parents=True)
    (folder / "data/our_hospital/labels.csv").write_text(csv[1], encoding="utf-8")
    for number in range(1, 4):
        image = Image.new("L", (4, 3 + number))
        image.save(folder / f"data/our_hospital/images/{number:04}.png")


def my_resnet(folder: Path, command: Command, _: pytest.MonkeyPatch) -> None:
    """The weight file of the page on checkpoints."""
    options = command.words[command.words.index("--options") + 1]
    main = import_module("workflow_scripts.checkpoints.phantom").main
    out = folder / "my_resnet.pth"
    assert run(main, ["--options", options, "--out", str(out)]) == 0


def predictions(folder: Path, command: Command, _: pytest.MonkeyPatch) -> None:
    """Predictions of the table that the page makes by hand: one file a seed of one cell."""
    words = command.words
    table = words[words.index("--table") + 1]
    kind = "episodes" if table.endswith("few_shot") else "classification"
    cases = pd.DataFrame({"image_id": list("abcdef"), "patient_id": list("pqrstu")})
    cases = cases.assign(**dict.fromkeys(CASE_COLUMNS[2:]))
    cases["age_years"] = np.nan
    truth, scores = np.array([0, 1] * 3), np.array([0.1, 0.9, 0.3, 0.4, 0.6, 0.8])
    both = np.stack([1 - scores, scores], axis=1)
    about = dict.fromkeys(METADATA_NAMES, "phantom") | {"table": table, "kind": kind}
    about |= {"system": "ssl_transfer", "protocol": "corrected", "metric": "accuracy"}
    episode = np.arange(6) // 2 if kind == "episodes" else None
    for seed, name in enumerate(word for word in words if word.endswith(".parquet")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_predictions(folder / name, cases, truth, both, {**about, "seed": seed}, episode)


PREPARED: dict[str, Callable[[Path, Command, pytest.MonkeyPatch], None]] = {
    "docs/how-to/run-on-a-cluster.md": tiny_plan,
    "docs/how-to/add-a-dataset.md": our_hospital,
    "docs/how-to/add-a-checkpoint.md": my_resnet,
    "docs/how-to/one-table.md": predictions,
    "docs/how-to/one-run.md": predictions,
}


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like the repository's, in which nothing of the repository can be overwritten."""
    for name in SHARED:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs/reference").mkdir(parents=True)
    (tmp_path / "docs/dag.svg").symlink_to(ROOT / "docs/dag.svg")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/published").symlink_to(ROOT / "results/published")
    monkeypatch.setenv("SLURM_ACCOUNT_NAME", "test_account")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    return tmp_path


def status_of(command: Command) -> int:
    """Run a command as it stands and return its exit status; Python steps in this process."""
    first, *others = command.text.split(" && ")
    if others:
        return max(status_of(replace(command, text=one)) for one in (first, *others))
    words = command.words
    if words[:2] != ["python", "-m"] or words[2].endswith(".smoke"):
        return subprocess.run(["bash", "-c", command.text], check=False).returncode
    main = import_module(words[2]).main
    try:
        return run(main, words[3:])
    except SystemExit as ended:  # --help
        return int(ended.code or 0)


@pytest.mark.parametrize("page", sorted({one.page for one in of(How.RUN)}))
def test_commands_of_a_page_run_in_their_order(
    page: str,
    sandbox: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = [one for one in of(How.RUN) if one.page == page]
    PREPARED.get(page, nothing)(sandbox, commands[0], monkeypatch)
    for one in commands:
        if one.page not in PREPARED and one.text in DONE:
            continue  # the same words stand on another page, and ran
        DONE.add(one.text)
        allowed = {0, FAULT} if one.words[-1].endswith(".doctor") else {0}
        assert status_of(one) in allowed, f"{one}\n{capsys.readouterr().err}"
        for flag, value in zip(one.words, one.words[1:], strict=False):
            if flag.startswith(("--out", "--manifest", "--backbone", "--csv", "--markdown")):
                assert Path(value).stat().st_size > 0, f"{one}: no {value}"
