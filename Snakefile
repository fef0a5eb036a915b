# What can be asked for. `snakemake --profile profiles/demo all` runs everything on phantoms.
from snakemake.utils import min_version

min_version("9.25")


configfile: "config.yaml"


report: "workflow_scripts/report/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/datasets.smk"
include: "rules/checkpoints.smk"
include: "rules/ssl_transfer.smk"
include: "rules/ssl_transfer_training.smk"
include: "rules/ssl_transfer_analysis.smk"
include: "rules/debiased_noise.smk"
include: "rules/layer_ensembles.smk"
include: "rules/crocodile.smk"
include: "rules/cooperative_training.smk"
include: "rules/training.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        [getattr(rules, system).input for system in config["systems"]],
        rules.ledger.output,
        rules.summary.output,
        plan.sheets(),
        expand(
            "<results>/tables/{table}.{suffix}",
            table=plan.matrices(),
            suffix=["tex", "png"],
        ),
    localrule: True
