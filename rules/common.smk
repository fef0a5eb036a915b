# The proven configuration, and the plan that rules ask.
import os
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)  # the package lies beside the Snakefile
from workflow_scripts.code_digest import code_digest
from workflow_scripts.plan import Plan, as_json
from workflow_scripts.problems import InputError
from workflow_scripts.report.predictions import KINDS
from workflow_scripts.settings import check_config, read_schema

# steps run with the Python that runs Snakemake, unless --sdm conda puts its own in front
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)

SCHEMAS = Path(workflow.basedir) / "rules/schemas"
CONFIG_FILES = [
    Path(file) for file in workflow.configfiles[-1:] + workflow.configfiles[:-1]
]
try:
    check_config(config, read_schema(SCHEMAS), CONFIG_FILES)
except InputError as error:
    raise WorkflowError(f"configuration refused:\n{error}")

plan = Plan(config)
if config["start"] == "warm":  # each step is forked from one process, see warm.py
    shell.prefix('python() {{ command python -m workflow_scripts.warm "$@"; }}; ')
OVERLAYS = " ".join(
    ["--configfile", *map(str, CONFIG_FILES[1:])] if CONFIG_FILES[1:] else []
)
KIND_MODULES = [f"workflow_scripts.report.kinds.{kind}" for kind in KINDS]
TEST_CASES = "results/published/test_cases.csv"  # behind printed numbers
PUBLISHED = [  # the papers' numbers; checksums.csv beside them is the lock of the weight files
    str(file)
    for file in sorted(Path("results/published").glob("*.csv"))
    if file.name not in ("checksums.csv", "test_cases.csv")
]


def grows(first):
    """A resource that the next attempt asks more of; profiles cap it at their cluster's limit."""
    return lambda wildcards, attempt: first * attempt


def pictures(wildcards):
    """The figures of every system, as its target asks for them."""
    return sorted({str(file) for file in rules.all.input if "/figures/" in str(file)})


def makers(wildcards):
    """JSON: the rule that makes each table."""
    files = {name: f"{plan.results}/tables/{name}.csv" for name in plan.chosen_tables()}
    found = {
        name: rule.name
        for name, file in files.items()
        for rule in workflow.rules
        if rule.is_producer(file)
    }
    return as_json(found)


wildcard_constraints:
    dataset="|".join(map(re.escape, plan.datasets)),
    checkpoint="|".join(map(re.escape, plan.checkpoints)),
    experiment="|".join(map(re.escape, plan.experiments)) or "none",
    geometry="[a-z]+[0-9]+",
    normalisation="own|none",
    protocol="released|paper|corrected",
    seed="[0-9]+",
    table="|".join(plan.all_tables()),
