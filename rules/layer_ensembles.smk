# Can one pass tell which segmentations to distrust?
from workflow_scripts.layer_ensembles.plan import CELL, RUN
from workflow_scripts.layer_ensembles.protocols import METHODS

layer_ensembles_plan = plan.systems["layer_ensembles"]


rule layer_ensembles_train:
    input:
        unpack(lambda w: layer_ensembles_plan.grid_files(w.dataset)),
    output:
        networks=f"<results>/layer_ensembles/networks/{RUN}/networks.safetensors",
        history=f"<results>/layer_ensembles/networks/{RUN}/history.csv",
    log:
        f"<logs>/layer_ensembles/train/{RUN}.log",
    benchmark:
        f"<benchmarks>/layer_ensembles/train/{RUN}.tsv"
    wildcard_constraints:
        method="|".join(METHODS),
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mpi="",
        nodes=1,
        tasks=1,
        processes=1,
        mem_mb=grows(32000),
        runtime=1440,
    params:
        settings=lambda w: as_json(layer_ensembles_plan.settings(w.dataset)),
        reduction=lambda w: layer_ensembles_plan.reduction(w.dataset),
        state=f"{config['pathvars']['state']}/layer_ensembles/{RUN}",
        workers=lambda w, threads, resources: threads - 1 if resources.gpu else 0,
        code=code_digest("workflow_scripts.layer_ensembles.train"),
    shell:
        "python -m workflow_scripts.launch --mpi={resources.mpi:q} --nodes {resources.nodes}"
        " --processes {resources.processes} --gpus {resources.gpu} --threads {threads}"
        " --minutes {resources.runtime} -m workflow_scripts.layer_ensembles.train"
        " --method {wildcards.method} --protocol {wildcards.protocol} --seed {wildcards.seed}"
        " --images {input.images} --masks {input.masks} --index {input.index}"
        " --manifest {input.manifest} --card {input.card} --leak-free {input.leak_free}"
        " --settings {params.settings:q} --reduction {params.reduction}"
        " --workers {params.workers} --state {params.state:q} --on-mismatch fresh"
        " --out {output.networks} --history {output.history} > {log} 2>&1"


rule layer_ensembles_predict:
    input:
        unpack(lambda w: layer_ensembles_plan.grid_files(w.dataset)),
        networks=f"<results>/layer_ensembles/networks/{RUN}/networks.safetensors",
    output:
        scores=f"<results>/layer_ensembles/scores/{RUN}/scores.parquet",
        examples=f"<results>/layer_ensembles/scores/{RUN}/examples.npz",
    log:
        f"<logs>/layer_ensembles/predict/{RUN}.log",
    benchmark:
        f"<benchmarks>/layer_ensembles/predict/{RUN}.tsv"
    wildcard_constraints:
        method="|".join(METHODS),
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=grows(32000),
        runtime=grows(120),
    params:
        combinations=lambda w: layer_ensembles_plan.combinations(w.protocol),
        batch=config["layer_ensembles"]["predict_batch"],
        examples=config["layer_ensembles"]["examples"],
        code=code_digest("workflow_scripts.layer_ensembles.predict"),
    shell:
        "python -m workflow_scripts.layer_ensembles.predict --networks {input.networks}"
        " --images {input.images} --masks {input.masks} --index {input.index}"
        " --manifest {input.manifest} --card {input.card} --leak-free {input.leak_free}"
        " --dataset {wildcards.dataset} --combinations {params.combinations}"
        " --batch {params.batch} --n-examples {params.examples} --gpus {resources.gpu}"
        " --jobs {threads} --out {output.scores} --examples {output.examples} > {log} 2>&1"


rule layer_ensembles_cell:
    input:
        scores=f"<results>/layer_ensembles/scores/{RUN}/scores.parquet",
    output:
        predictions=f"<results>/layer_ensembles/cells/{{table}}/{CELL}/predictions.parquet",
    log:
        f"<logs>/layer_ensembles/cell/{{table}}/{CELL}.log",
    benchmark:
        f"<benchmarks>/layer_ensembles/cell/{{table}}/{CELL}.tsv"
    wildcard_constraints:
        method="|".join(METHODS),
        skip="[0-9]+",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        thresholds=lambda w: as_json(
            config["layer_ensembles"]["per_dataset"][w.dataset]["dice_thresholds"]
        ),
        code=code_digest("workflow_scripts.layer_ensembles.cell"),
    shell:
        "python -m workflow_scripts.layer_ensembles.cell --scores {input.scores}"
        " --table {wildcards.table} --skip {wildcards.skip}"
        " --dice-thresholds {params.thresholds:q} --out {output.predictions} > {log} 2>&1"


rule layer_ensembles:
    input:
        expand(
            "<results>/tables/{table}.{suffix}",
            table=layer_ensembles_plan.tables(),
            suffix=["csv", "md", "tex"],
        ),
    localrule: True
