# Does a causal, disentangled classifier lose less when the hospital changes?
from workflow_scripts.crocodile.plan import RUN

crocodile_plan = plan.systems["crocodile"]
CROCODILE_STORE = crocodile_plan.geometry


wildcard_constraints:
    variant="[a-z_]+",
    role="ID|OOD",


rule crocodile_train:
    input:
        **crocodile_plan.backbone_files(),
        manifests=crocodile_plan.files("ID", "manifest.parquet"),
        cards=crocodile_plan.files("ID", "card.json"),
        stores=crocodile_plan.files("ID", f"store/{CROCODILE_STORE}.npy"),
        indexes=crocodile_plan.files("ID", f"store/{CROCODILE_STORE}.parquet"),
        leak_free=f"<results>/experiments/{config['crocodile']['experiment']}/leak_free.json",
    output:
        model=f"<results>/crocodile/train/{RUN}/model.safetensors",
        record=f"<results>/crocodile/train/{RUN}/training.json",
        history=f"<results>/crocodile/train/{RUN}/history.csv",
    log:
        f"<logs>/crocodile/train/{RUN}.log",
    benchmark:
        f"<benchmarks>/crocodile/train/{RUN}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        # the profile makes it multi-node: mpi=srun, nodes, tasks, processes and node_gpus
        mpi="",
        nodes=1,
        tasks=1,
        processes=1,
        node_gpus=lambda w, input: config["crocodile"]["gpus"],
        gpu=lambda w, input: config["crocodile"]["gpus"],
        mem_mb=grows(64000),
        runtime=grows(1440),  # minutes
    params:
        network=crocodile_plan.network(),
        training=lambda w: crocodile_plan.training(w.variant),
        weights=lambda w: crocodile_plan.weights(w.protocol, w.variant),
        backbone=crocodile_plan.backbone_arguments(),
        precision=config["crocodile"]["precision"],
        workers=config["crocodile"]["workers"],
        state=f"{config['pathvars']['state']}/crocodile/{RUN}",
        code=code_digest("workflow_scripts.crocodile.train"),
    shell:
        "python -m workflow_scripts.launch --mpi={resources.mpi:q} --nodes {resources.nodes}"
        " --processes {resources.processes} --gpus {resources.node_gpus} --threads {threads}"
        " --minutes {resources.runtime} -m workflow_scripts.crocodile.train"
        " --protocol {wildcards.protocol} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --manifests {input.manifests} --cards {input.cards} --stores {input.stores}"
        " --indexes {input.indexes} --leak-free {input.leak_free} {params.backbone}"
        " --network {params.network:q} --training {params.training:q}"
        " --weights {params.weights:q} --precision {params.precision}"
        " --workers {params.workers} --state {params.state:q} --on-mismatch fresh"
        " --model {output.model} --record {output.record} --history {output.history}"
        " > {log} 2>&1"


rule crocodile_test:
    input:
        model=f"<results>/crocodile/train/{RUN}/model.safetensors",
        record=f"<results>/crocodile/train/{RUN}/training.json",
        manifests=lambda w: crocodile_plan.files(w.role, "manifest.parquet"),
        cards=lambda w: crocodile_plan.files(w.role, "card.json"),
        stores=lambda w: crocodile_plan.files(w.role, f"store/{CROCODILE_STORE}.npy"),
        indexes=lambda w: crocodile_plan.files(
            w.role, f"store/{CROCODILE_STORE}.parquet"
        ),
    output:
        predictions=f"<results>/crocodile/test/{RUN}/{{role}}/predictions.parquet",
        causality=f"<results>/crocodile/test/{RUN}/{{role}}/causality.csv",
    log:
        f"<logs>/crocodile/test/{RUN}/{{role}}.log",
    benchmark:
        f"<benchmarks>/crocodile/test/{RUN}/{{role}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=lambda w, input: min(1, config["crocodile"]["gpus"]),
        mem_mb=grows(32000),
        runtime=grows(120),
    params:
        precision=config["crocodile"]["precision"],
        code=code_digest("workflow_scripts.crocodile.predict"),
    shell:
        "python -m workflow_scripts.crocodile.predict --model {input.model}"
        " --record {input.record} --role {wildcards.role} --manifests {input.manifests}"
        " --cards {input.cards} --stores {input.stores} --indexes {input.indexes}"
        " --gpus {resources.gpu} --precision {params.precision}"
        " --out {output.predictions} --map {output.causality} > {log} 2>&1"


rule crocodile:
    input:
        expand(
            "<results>/tables/crocodile_id_ood.{suffix}",
            suffix=["csv", "md", "tex", "png"],
        ),
    localrule: True
