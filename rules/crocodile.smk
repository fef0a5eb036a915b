# Does a causal, disentangled classifier lose less when the hospital changes?
from workflow_scripts.crocodile.plan import RUN

crocodile_plan = plan.systems["crocodile"]
CROCODILE_STORE = crocodile_plan.geometry
CROCODILE_PROCESSES = max(
    1, config["crocodile"]["gpus"]
)  # on a node: one a GPU, or one


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
    threads: 8 * CROCODILE_PROCESSES
    resources:
        # the profile makes it multi-node: mpi=srun, nodes, tasks, processes, node_gpus and gres
        mpi="",
        nodes=1,
        tasks=1,
        tasks_per_gpu=0,  # SLURM's plugin would make `tasks` for each GPU; torchrun makes ours
        processes=CROCODILE_PROCESSES,
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
        # a function of threads is not recorded: other workers change no result
        workers=lambda w, threads: config["crocodile"]["workers"],
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


rule crocodile_task_prior:
    output:
        prior="<results>/crocodile/task_prior.csv",
    log:
        "<logs>/crocodile/task_prior.log",
    benchmark:
        "<benchmarks>/crocodile/task_prior.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        code=code_digest("workflow_scripts.crocodile.task_prior"),
    shell:
        "python -m workflow_scripts.crocodile.task_prior --out {output.prior} > {log} 2>&1"


rule crocodile_findings_figure:
    input:
        csv="<results>/tables/crocodile_id_ood.csv",
    output:
        figure=report(
            "<results>/figures/crocodile_findings.png",
            caption="../workflow_scripts/report/captions/crocodile_findings.rst",
            category="Figures",
            labels={"table": "crocodile_id_ood", "content": "findings"},
        ),
    log:
        "<logs>/figures/crocodile_findings.log",
    benchmark:
        "<benchmarks>/figures/crocodile_findings.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.report.findings_figures"),
    shell:
        "python -m workflow_scripts.report.findings_figures --kind bars --files {input.csv}"
        " --out {output.figure} > {log} 2>&1"


rule crocodile_reliability_figure:
    input:
        predictions=crocodile_plan.predictions(),
    output:
        figure=report(
            "<results>/figures/crocodile_reliability.png",
            caption="../workflow_scripts/report/captions/crocodile_reliability.rst",
            category="Figures",
            labels={"table": "crocodile_id_ood", "content": "reliability"},
        ),
    log:
        "<logs>/figures/crocodile_reliability.log",
    benchmark:
        "<benchmarks>/figures/crocodile_reliability.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=8000,
        runtime=20,
    params:
        code=code_digest("workflow_scripts.report.findings_figures"),
    shell:
        "python -m workflow_scripts.report.findings_figures --kind reliability"
        " --files {input.predictions} --out {output.figure} > {log} 2>&1"


rule crocodile_causality_figure:
    input:
        prior="<results>/crocodile/task_prior.csv",
        maps=crocodile_plan.maps(),
    output:
        figure=report(
            "<results>/figures/crocodile_causality.png",
            caption="../workflow_scripts/report/captions/crocodile_causality.rst",
            category="Figures",
            labels={"table": "crocodile_id_ood", "content": "causality maps"},
        ),
    log:
        "<logs>/figures/crocodile_causality.log",
    benchmark:
        "<benchmarks>/figures/crocodile_causality.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        phantom="--phantom" if crocodile_plan.has_phantoms else "",
        code=code_digest("workflow_scripts.report.findings_figures"),
    shell:
        "python -m workflow_scripts.report.findings_figures --kind maps --prior {input.prior}"
        " --files {input.maps} {params.phantom} --out {output.figure} > {log} 2>&1"


rule crocodile:
    input:
        expand(
            "<results>/tables/crocodile_id_ood.{suffix}",
            suffix=["csv", "md", "tex", "png"],
        ),
        expand(
            "<results>/figures/crocodile_{figure}.png",
            figure=["findings", "reliability"]
            + ["causality"] * bool(crocodile_plan.maps()),
        ),
    localrule: True
