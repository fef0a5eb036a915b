# The proven configuration, and the questions that rules ask of it.
import json
import os
import re
import sys
from pathlib import Path

import yaml

sys.path.insert(0, workflow.basedir)  # the package lies beside the Snakefile
from workflow_scripts.code_digest import code_digest
from workflow_scripts.datasets.layout import layout_named
from workflow_scripts.problems import InputError
from workflow_scripts.settings import check_config
from workflow_scripts.ssl_transfer import protocols

# steps run with the Python that runs Snakemake, unless --sdm conda puts its own in front
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

SCHEMA = Path(workflow.basedir) / "rules/schemas/config.schema.yaml"
CONFIG_FILES = [Path(f) for f in workflow.configfiles[-1:] + workflow.configfiles[:-1]]
try:
    check_config(config, yaml.safe_load(SCHEMA.read_text()), CONFIG_FILES)
except InputError as error:
    raise WorkflowError(f"configuration refused:\n{error}")

PUBLISHED = sorted(map(str, Path("results/published").glob("*.csv")))
RESULTS = config["pathvars"]["results"]
PYTHON = "python -m workflow_scripts.warm" if config["start"] == "warm" else "python"


wildcard_constraints:
    dataset="|".join(config["datasets"]),
    checkpoint="|".join(map(re.escape, config["checkpoints"])),
    geometry="[a-z]+[0-9]+",
    normalisation="own|none",
    protocol="released|corrected",
    seed="[0-9]+",


def as_json(content):
    """Return `content` for a command line, keys in a fixed order."""
    return json.dumps(content, sort_keys=True)


def is_phantom(dataset):
    """Say whether the data set's folder is made by a phantom writer."""
    return config["datasets"][dataset]["root"] in config["phantoms"]["datasets"]


def data_folder(wildcards):
    """Return the folder of a data set's archive."""
    root = config["datasets"][wildcards.dataset]["root"]
    top = f"{RESULTS}/data" if is_phantom(wildcards.dataset) else config["data_root"]
    return f"{top}/{root}"


# Data sets


def dataset_of_root(root):
    """Return the first data set that is read from the folder `root`."""
    return next(name for name, one in config["datasets"].items() if one["root"] == root)


def archive_files(wildcards):
    """Return what a manifest is made from and Snakemake can watch."""
    entry = config["datasets"][wildcards.dataset]
    if is_phantom(wildcards.dataset):
        return f"{RESULTS}/data/{entry['root']}/PHANTOM.json"
    own_table = Path(data_folder(wildcards)) / entry.get("table", "")
    return str(own_table) if own_table.is_file() else []


def layout_code(step, dataset):
    """Return the digest of a step of `datasets` with the layout it loads by name."""
    layout = config["datasets"][dataset]["layout"]
    return code_digest(
        f"workflow_scripts.datasets.{step}", f"workflow_scripts.datasets.{layout}"
    )


def contact_sheets():
    """Return a contact sheet of every data set that an experiment uses."""
    return expand("<results>/datasets/{dataset}/contact_sheet.png", dataset=used_datasets())


def used_datasets():
    """Return the data sets that the experiments name, in the configured order."""
    system = config["ssl_transfer"]
    columns = system["few_shot"]["columns"] + system["linear"]["columns"]
    used = {column["dataset"] for column in columns}
    return [name for name in config["datasets"] if name in used]


# Checkpoints

checkpoint_of_file = {
    entry["file"]: name for name, entry in config["checkpoints"].items() if "file" in entry
}


def source_file(wildcards):
    """Return the published weight file: a phantom's, or the user's where it is there."""
    file = config["checkpoints"][wildcards.checkpoint].get("file")
    if file is None:
        return []
    if config["phantoms"]["checkpoints"]:
        return f"{RESULTS}/sources/{file}"
    path = Path(config["source_root"]) / file
    return str(path) if path.exists() else []  # a dry run needs no weights


def source_argument(wildcards):
    """Return the command line's `--source`, also for a file that is missing: it is refused."""
    file = config["checkpoints"][wildcards.checkpoint].get("file")
    if file is None:
        return ""
    top = f"{RESULTS}/sources" if config["phantoms"]["checkpoints"] else config["source_root"]
    return f"--source {top}/{file}"


def format_code(step, checkpoint):
    """Return the digest of a step of `checkpoints` with the format it loads by name."""
    return code_digest(
        f"workflow_scripts.checkpoints.{step}",
        f"workflow_scripts.checkpoints.formats.{config['checkpoints'][checkpoint]['format']}",
    )


# SSL transfer

FEATURES = "{checkpoint}/{dataset}/{geometry}-{normalisation}"
FEW_SHOT_RUN = "{protocol}/{checkpoint}/{dataset}/{n_way}way-{n_support}shot/seed{seed}"
LINEAR_RUN = "{protocol}/{checkpoint}/{dataset}/seed{seed}"


def features_file(options, wildcards):
    """Return the features that a protocol's `options` ask for."""
    geometry = options.geometry
    if geometry == "by_dataset":
        layout = layout_named(config["datasets"][wildcards.dataset]["layout"])
        geometry = layout.geometry_released or "short224"
    run = f"{wildcards.checkpoint}/{wildcards.dataset}/{geometry}-{options.normalisation}"
    return f"{RESULTS}/ssl_transfer/features/{run}.npz"


def few_shot_features(wildcards):
    return features_file(protocols.FEW_SHOT[wildcards.protocol], wildcards)


def linear_features(wildcards):
    return features_file(protocols.LINEAR[wildcards.protocol], wildcards)


def few_shot_runs():
    """Return the predictions behind the few-shot table."""
    system, stage = config["ssl_transfer"], config["ssl_transfer"]["few_shot"]
    return [
        f"{RESULTS}/ssl_transfer/few_shot/"
        + FEW_SHOT_RUN.format(
            protocol=protocol,
            checkpoint=checkpoint,
            n_support=stage["n_support"],
            seed=seed,
            **column,
        )
        + "/predictions.parquet"
        for protocol in stage["protocols"]
        for checkpoint in system["checkpoints"]
        for column in stage["columns"]
        for seed in stage["seeds"]
    ]


def linear_runs():
    """Return the predictions behind the linear table."""
    system, stage = config["ssl_transfer"], config["ssl_transfer"]["linear"]
    return [
        f"{RESULTS}/ssl_transfer/linear/"
        + LINEAR_RUN.format(protocol=protocol, checkpoint=checkpoint, seed=seed, **column)
        + "/predictions.parquet"
        for protocol in stage["protocols"]
        for checkpoint in system["checkpoints"]
        for column in stage["columns"]
        for seed in stage["seeds"]
    ]


# Tables: name: the predictions it is made from

TABLES = {
    "ssl_transfer_few_shot": few_shot_runs,
    "ssl_transfer_linear": linear_runs,
}


def used_checkpoints():
    """Return the checkpoints that the experiments name."""
    return config["ssl_transfer"]["checkpoints"]


def overlays():
    """Return the command line's words that give Snakemake the same configuration again."""
    files = CONFIG_FILES[1:]
    return f"--configfile {' '.join(map(str, files))}" if files else ""
