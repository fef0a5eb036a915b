# The proven configuration, and the plan that rules ask.
import os
import re
import sys
from pathlib import Path

import yaml

sys.path.insert(0, workflow.basedir)  # the package lies beside the Snakefile
from workflow_scripts.code_digest import code_digest
from workflow_scripts.plan import FEATURES, FEW_SHOT_RUN, LINEAR_RUN, Plan, as_json
from workflow_scripts.problems import InputError
from workflow_scripts.settings import check_config

# steps run with the Python that runs Snakemake, unless --sdm conda puts its own in front
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)

SCHEMA = Path(workflow.basedir) / "rules/schemas/config.schema.yaml"
CONFIG_FILES = [
    Path(file) for file in workflow.configfiles[-1:] + workflow.configfiles[:-1]
]
try:
    check_config(config, yaml.safe_load(SCHEMA.read_text()), CONFIG_FILES)
except InputError as error:
    raise WorkflowError(f"configuration refused:\n{error}")

plan = Plan(config)
if config["start"] == "warm":  # each step is forked from one process, see warm.py
    shell.prefix('python() {{ command python -m workflow_scripts.warm "$@"; }}; ')
OVERLAYS = " ".join(
    ["--configfile", *map(str, CONFIG_FILES[1:])] if CONFIG_FILES[1:] else []
)
PUBLISHED = [  # the papers' numbers; checksums.csv beside them is the lock of the weight files
    str(file)
    for file in sorted(Path("results/published").glob("*.csv"))
    if file.name != "checksums.csv"
]


def grows(first):
    """A resource that the next attempt asks more of; profiles cap it at their cluster's limit."""
    return lambda wildcards, attempt: first * attempt


wildcard_constraints:
    dataset="|".join(map(re.escape, plan.datasets)),
    checkpoint="|".join(map(re.escape, plan.checkpoints)),
    experiment="|".join(map(re.escape, plan.experiments)) or "none",
    geometry="[a-z]+[0-9]+",
    normalisation="own|none",
    protocol="released|corrected",
    n_way="[0-9]+",
    n_support="[0-9]+",
    seed="[0-9]+",
    table="|".join(plan.tables()),
