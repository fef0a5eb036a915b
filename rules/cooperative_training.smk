# Does a segmenter trained on one scanner survive others and artefacts?
from workflow_scripts.cooperative_training.plan import RUN as SEGMENTER

cooperative_plan = plan.systems["cooperative_training"]
SEGMENTER_NAME = SEGMENTER.replace(os.sep, "-")


wildcard_constraints:
    recipe="[a-z_]+",
    patients="split|[0-9a-z_.]+_cv_[0-4]",
    stn_passes="[0-9]",


rule train_segmenter:
    input:
        **cooperative_plan.store(config["cooperative_training"]["dataset"]),
        leak_free=cooperative_plan.leak_free(),
    output:
        weights=f"<results>/cooperative_training/train_segmenter/{SEGMENTER}/weights.safetensors",
        training=f"<results>/cooperative_training/train_segmenter/{SEGMENTER}/training.json",
        history=f"<results>/cooperative_training/train_segmenter/{SEGMENTER}/history.csv",
    log:
        f"<logs>/cooperative_training/train_segmenter/{SEGMENTER}.log",
    benchmark:
        f"<benchmarks>/cooperative_training/train_segmenter/{SEGMENTER}.tsv"
    retries: 3
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,  # GPUs of a node; more with as many processes
        mpi="",
        nodes=1,
        tasks=1,
        processes=1,
        mem_mb=grows(16000),
        runtime=grows(480),
    params:
        dataset=config["cooperative_training"]["dataset"],
        options=cooperative_plan.training_words(),
        workers=lambda w, threads, resources: threads - 1 if resources.gpu else 0,
        state=f"{config['pathvars']['state']}/cooperative_training/{SEGMENTER}",
        code=code_digest("workflow_scripts.cooperative_training.train_segmenter"),
    shell:
        "python -m workflow_scripts.launch --mpi={resources.mpi:q} --nodes {resources.nodes}"
        " --processes {resources.processes} --gpus {resources.gpu} --threads {threads}"
        " --minutes {resources.runtime}"
        " -m workflow_scripts.cooperative_training.train_segmenter"
        " --images {input.images} --masks {input.masks} --index {input.index}"
        " --manifest {input.manifest} --leak-free {input.leak_free} --dataset {params.dataset}"
        " --method {wildcards.recipe} --protocol {wildcards.protocol}"
        " --list {wildcards.patients} --seed {wildcards.seed} {params.options}"
        " --workers {params.workers} --state {params.state:q} --on-mismatch fresh"
        " --weights {output.weights} --out {output.training} --history {output.history}"
        " > {log} 2>&1"


rule score_segmenter:
    input:
        unpack(lambda w: cooperative_plan.store(w.dataset)),
        weights=rules.train_segmenter.output.weights,
        training=rules.train_segmenter.output.training,
        leak_free=cooperative_plan.leak_free(),
    output:
        scores=expand(
            f"<results>/cooperative_training/score_segmenter/{SEGMENTER}/"
            "{dataset}/pass{stn_passes}/predictions.parquet",
            stn_passes=config["cooperative_training"]["stn_passes"],
            allow_missing=True,
        ),
        pictures=f"<results>/cooperative_training/score_segmenter/{SEGMENTER}/"
        "{dataset}/pictures.npz",
    log:
        f"<logs>/cooperative_training/score_segmenter/{SEGMENTER}/" "{dataset}.log",
    benchmark:
        f"<benchmarks>/cooperative_training/score_segmenter/{SEGMENTER}/"
        "{dataset}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(60),
    params:
        passes=config["cooperative_training"]["stn_passes"],
        code=code_digest("workflow_scripts.cooperative_training.score_segmenter"),
    shell:
        "python -m workflow_scripts.cooperative_training.score_segmenter"
        " --weights {input.weights} --training {input.training} --images {input.images}"
        " --masks {input.masks} --index {input.index} --manifest {input.manifest}"
        " --passes {params.passes} --gpus {resources.gpu} --out {output.scores}"
        " --pictures {output.pictures} > {log} 2>&1"


rule severity_scores:
    input:
        **cooperative_plan.store(config["cooperative_training"]["dataset"]),
        weights=rules.train_segmenter.output.weights,
        training=rules.train_segmenter.output.training,
    output:
        scores=f"<results>/cooperative_training/severity_scores/{SEGMENTER}/scores.parquet",
    log:
        f"<logs>/cooperative_training/severity_scores/{SEGMENTER}.log",
    benchmark:
        f"<benchmarks>/cooperative_training/severity_scores/{SEGMENTER}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(90),
    params:
        severity=config["cooperative_training"]["severity"],
        seed=config["seed"],
        code=code_digest("workflow_scripts.cooperative_training.severity_scores"),
    shell:
        "python -m workflow_scripts.cooperative_training.severity_scores"
        " --weights {input.weights} --training {input.training} --images {input.images}"
        " --masks {input.masks} --index {input.index} --manifest {input.manifest}"
        " --levels {params.severity[levels]} --draws {params.severity[draws]}"
        " --stn-passes {params.severity[stn_passes]} --seed {params.seed}"
        " --gpus {resources.gpu} --out {output.scores} > {log} 2>&1"


rule layer_agreement:
    input:
        **cooperative_plan.store(config["cooperative_training"]["dataset"]),
        weights=rules.train_segmenter.output.weights,
        training=rules.train_segmenter.output.training,
    output:
        scores=f"<results>/cooperative_training/layer_agreement/{SEGMENTER}/predictions.parquet",
    log:
        f"<logs>/cooperative_training/layer_agreement/{SEGMENTER}.log",
    benchmark:
        f"<benchmarks>/cooperative_training/layer_agreement/{SEGMENTER}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(90),
    params:
        severity=config["cooperative_training"]["severity"],
        seed=config["seed"],
        code=code_digest("workflow_scripts.cooperative_training.layer_agreement"),
    shell:
        "python -m workflow_scripts.cooperative_training.layer_agreement"
        " --weights {input.weights} --training {input.training} --images {input.images}"
        " --masks {input.masks} --index {input.index} --manifest {input.manifest}"
        " --levels {params.severity[levels]} --draws {params.severity[draws]}"
        " --stn-passes {params.severity[stn_passes]}"
        " --corrections {params.severity[corrections]} --seed {params.seed}"
        " --gpus {resources.gpu} --out {output.scores} > {log} 2>&1"


rule hard_examples:
    input:
        **cooperative_plan.store(config["cooperative_training"]["dataset"]),
        weights=rules.train_segmenter.output.weights,
        training=rules.train_segmenter.output.training,
    output:
        arrays=f"<results>/cooperative_training/hard_examples/{SEGMENTER}/arrays.npz",
    log:
        f"<logs>/cooperative_training/hard_examples/{SEGMENTER}.log",
    benchmark:
        f"<benchmarks>/cooperative_training/hard_examples/{SEGMENTER}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(15),
    params:
        seed=config["seed"],
        code=code_digest("workflow_scripts.cooperative_training.hard_examples"),
    shell:
        "python -m workflow_scripts.cooperative_training.hard_examples"
        " --weights {input.weights} --training {input.training} --images {input.images}"
        " --masks {input.masks} --index {input.index} --manifest {input.manifest}"
        " --seed {params.seed} --out {output.arrays} > {log} 2>&1"


rule segmentation_cases_figure:
    input:
        arrays=rules.score_segmenter.output.pictures,
    output:
        figure=report(
            "<results>/figures/cooperative_training_cases-{dataset}-"
            f"{SEGMENTER_NAME}.png",
            caption="../workflow_scripts/report/captions/segmentation_cases.rst",
            category="Figures",
            labels={"figure": "best, median, worst: {dataset}", "content": "{recipe}"},
        ),
    log:
        "<logs>/segmentation_cases_figure/{dataset}-" f"{SEGMENTER_NAME}.log",
    benchmark:
        "<benchmarks>/segmentation_cases_figure/{dataset}-" f"{SEGMENTER_NAME}.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.report.segmentation_figures"),
    shell:
        "python -m workflow_scripts.report.segmentation_figures --kind cases"
        " --inputs {input.arrays} --out {output.figure}"
        " --title '{wildcards.dataset}: {wildcards.recipe}, {wildcards.patients},"
        " {wildcards.protocol}' > {log} 2>&1"


rule hard_examples_figure:
    input:
        arrays=rules.hard_examples.output.arrays,
    output:
        figure=report(
            "<results>/figures/cooperative_training_hard_examples-"
            f"{SEGMENTER_NAME}.png",
            caption="../workflow_scripts/report/captions/hard_examples.rst",
            category="Figures",
            labels={"figure": "hard examples", "content": "{recipe}"},
        ),
    log:
        f"<logs>/hard_examples_figure/{SEGMENTER_NAME}.log",
    benchmark:
        f"<benchmarks>/hard_examples_figure/{SEGMENTER_NAME}.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.report.segmentation_figures"),
    shell:
        "python -m workflow_scripts.report.segmentation_figures --kind hard_examples"
        " --inputs {input.arrays} --out {output.figure}"
        " --title 'Hard examples: {wildcards.recipe}, {wildcards.patients},"
        " {wildcards.protocol}' > {log} 2>&1"


rule severity_figure:
    input:
        scores=lambda w: cooperative_plan.severity_scores(w.protocol),
    output:
        figure=report(
            "<results>/figures/cooperative_training_severity-{protocol}.png",
            caption="../workflow_scripts/report/captions/severity.rst",
            category="Figures",
            labels={"figure": "Dice by severity", "content": "{protocol}"},
        ),
    log:
        "<logs>/severity_figure/{protocol}.log",
    benchmark:
        "<benchmarks>/severity_figure/{protocol}.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.report.segmentation_figures"),
    shell:
        "python -m workflow_scripts.report.segmentation_figures --kind severity"
        " --inputs {input.scores} --out {output.figure}"
        " --title 'Dice by severity of artefacts, {wildcards.protocol}' > {log} 2>&1"


rule layer_agreement_figure:
    input:
        scores=lambda w: cooperative_plan.agreements(w.protocol),
    output:
        figure=report(
            "<results>/figures/cooperative_training_agreement-{protocol}.png",
            caption="../workflow_scripts/report/captions/agreement.rst",
            category="Figures",
            labels={"figure": "layer agreement by severity", "content": "{protocol}"},
        ),
    log:
        "<logs>/layer_agreement_figure/{protocol}.log",
    benchmark:
        "<benchmarks>/layer_agreement_figure/{protocol}.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.report.segmentation_figures"),
    shell:
        "python -m workflow_scripts.report.segmentation_figures --kind agreement"
        " --inputs {input.scores} --out {output.figure}"
        " --title 'Layer agreement up the ladder of artefacts, {wildcards.protocol}' > {log} 2>&1"


rule cooperative_training:
    input:
        expand(
            "<results>/tables/{table}.{suffix}",
            table=cooperative_plan.tables(),
            suffix=["csv", "md", "tex", "png"],
        ),
        cooperative_plan.pictures(),
    localrule: True
