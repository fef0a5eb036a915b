# Which pretrained backbone serves which medical data set?
from workflow_scripts.ssl_transfer.plan import FEATURES, FEW_SHOT_RUN, LINEAR_RUN

ssl_plan = plan.systems["ssl_transfer"]


wildcard_constraints:
    n_way="[0-9]+",
    n_support="[0-9]+",


rule features:
    input:
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        store="<results>/datasets/{dataset}/store/{geometry}.npy",
        index="<results>/datasets/{dataset}/store/{geometry}.parquet",
        card="<results>/datasets/{dataset}/card.json",
    output:
        features=f"<results>/ssl_transfer/features/{FEATURES}.npz",
    log:
        f"<logs>/ssl_transfer/features/{FEATURES}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/features/{FEATURES}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=grows(32000),
        runtime=grows(40),
    params:
        batch_size=config["ssl_transfer"]["features"]["batch_size"],
        precision=config["ssl_transfer"]["features"]["precision"],
        code=code_digest("workflow_scripts.ssl_transfer.features"),
    shell:
        "python -m workflow_scripts.ssl_transfer.features --backbone {input.backbone}"
        " --certificate {input.certificate} --store {input.store} --index {input.index}"
        " --card {input.card} --dataset {wildcards.dataset} --geometry {wildcards.geometry}"
        " --normalisation {wildcards.normalisation} --precision {params.precision}"
        " --batch-size {params.batch_size} --threads {threads} --gpus {resources.gpu}"
        " --out {output.features} > {log} 2>&1"


rule few_shot:
    input:
        features=lambda w: ssl_plan.few_shot_features(
            w.protocol, w.checkpoint, w.dataset
        ),
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        leak_free="<results>/datasets/{dataset}/leak_free.json",
    output:
        predictions=f"<results>/ssl_transfer/few_shot/{FEW_SHOT_RUN}/predictions.parquet",
    log:
        f"<logs>/ssl_transfer/few_shot/{FEW_SHOT_RUN}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/few_shot/{FEW_SHOT_RUN}.tsv"
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(15),
    params:
        n_query=config["ssl_transfer"]["few_shot"]["n_query"],
        n_episodes=config["ssl_transfer"]["few_shot"]["n_episodes"],
        code=code_digest("workflow_scripts.ssl_transfer.few_shot"),
    shell:
        "python -m workflow_scripts.ssl_transfer.few_shot --features {input.features}"
        " --manifest {input.manifest} --card {input.card} --certificate {input.certificate}"
        " --leak-free {input.leak_free} --protocol {wildcards.protocol}"
        " --n-way {wildcards.n_way} --n-support {wildcards.n_support}"
        " --n-query {params.n_query} --n-episodes {params.n_episodes} --seed {wildcards.seed}"
        " --column '{wildcards.dataset} {wildcards.n_way}-way' --out {output.predictions}"
        " > {log} 2>&1"


rule linear:
    input:
        features=lambda w: ssl_plan.linear_features(w.protocol, w.checkpoint, w.dataset),
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        leak_free="<results>/datasets/{dataset}/leak_free.json",
    output:
        predictions=f"<results>/ssl_transfer/linear/{LINEAR_RUN}/predictions.parquet",
        path=f"<results>/ssl_transfer/linear/{LINEAR_RUN}/regularisation_path.csv",
    log:
        f"<logs>/ssl_transfer/linear/{LINEAR_RUN}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/linear/{LINEAR_RUN}.tsv"
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(16000),
        runtime=grows(240),
    params:
        column=lambda w: ssl_plan.linear_column(w.dataset),
        code=code_digest("workflow_scripts.ssl_transfer.linear"),
    shell:
        "python -m workflow_scripts.ssl_transfer.linear --features {input.features}"
        " --manifest {input.manifest} --card {input.card} --certificate {input.certificate}"
        " --leak-free {input.leak_free} --protocol {wildcards.protocol}"
        " --seed {wildcards.seed} --threads {threads} --column {params.column:q}"
        " --out {output.predictions} --path {output.path} > {log} 2>&1"
