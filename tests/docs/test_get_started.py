"""Part 2 of the page for newcomers, on a phantom in place of the archive."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, RunSnakemake
from tests.docs.commands import Command, every_command
from workflow_scripts.datasets import manifest, phantom

pytestmark = pytest.mark.slow
PAGE = "docs/get-started.md"
LINKED = ("Snakefile", "config.yaml", "rules", "workflow_scripts", "envs")
TINY = {  # on top of the page's own file: no archive, no download, seconds instead of minutes
    "start": "warm",
    "pathvars": {"results": "results/demo"},  # phantoms never lie among real results
    "phantoms": {
        "checkpoints": True,
        "datasets": {"montgomerycxr": {"images": 24, "min_per_class": 12, "image_size": 64}},
    },
    "ssl_transfer": {"few_shot": {"n_support": 2, "n_query": 2, "n_episodes": 20}},
}


def asked(words: str) -> Command:
    """Return the one command of the page that ends with `words` and is no dry run."""
    found = [one for one in every_command(ROOT) if one.page == PAGE and one.text.endswith(words)]
    (only,) = [one for one in found if " -n " not in one.text]
    return only


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("newcomer")
    for name in LINKED:
        (place / name).symlink_to(ROOT / name)
    (place / "profiles").mkdir()
    (place / "profiles/local").symlink_to(ROOT / "profiles/local")
    (place / "results").mkdir()
    (place / "results/published").symlink_to(ROOT / "results/published")
    overlay = asked("-- results/tables/ssl_transfer_few_shot.csv").overlay
    (place / "first.yaml").write_text(overlay, encoding="utf-8")
    (place / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return place


def test_a_list_made_from_the_file_names_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, entry = (
        tmp_path / "data/montgomerycxr",
        yaml.safe_load(asked("-- check").overlay)["datasets"]["montgomery"]
        | {"layout": "montgomery"},
    )
    size = {"images": 12, "min_per_class": 6, "image_size": 64}
    words = ["--options", json.dumps(entry), "--phantom", json.dumps(size), "--seed", "0"]
    phantom.main(["--dataset", "montgomery", *words, "--out", str(root / "PHANTOM.json")])
    (root / "montgomery_metadata.csv").unlink()
    monkeypatch.chdir(tmp_path)
    command = asked("data/montgomerycxr/montgomery_metadata.csv").text
    subprocess.run(["bash", "-c", command], check=True)
    found, _, quarantine = manifest.build("montgomery", entry, root, seed=0, jobs=1)
    assert found["label"].value_counts().to_dict() == {0: 6, 1: 6}
    assert len(quarantine) == 0


def words_of(command: Command) -> list[str]:
    """Return the page's words with the tiny file on top of its own."""
    words = [word.replace("results/", "results/demo/") for word in command.words[1:]]
    place = words.index("first.yaml") + 1
    return [*words[:place], "tiny.yaml", *words[place:]]


def test_check_says_what_is_here(folder: Path, snakemake: RunSnakemake) -> None:
    done = snakemake(*words_of(asked("-- check")), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "montgomery" in done.stdout
    assert "phantom" in done.stdout


def test_the_table_is_made_and_can_be_read(folder: Path, snakemake: RunSnakemake) -> None:
    command = asked("-- results/tables/ssl_transfer_few_shot.csv")
    done = snakemake(*words_of(command), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = asked("ssl_transfer_few_shot.md").words[-1].replace("results/", "results/demo/")
    table = (folder / shown).read_text(encoding="utf-8")
    for word in ("supervised_r18", "supervised_r50", "montgomery 2-way", "PHANTOM"):
        assert word in table
    for name in ("card.json", "quarantine.csv", "leak_free.json"):  # as the page says
        assert (folder / "results/demo/datasets/montgomery" / name).is_file()
