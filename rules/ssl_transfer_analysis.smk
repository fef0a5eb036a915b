# What features and reconstructions say beside accuracy: invariance, likeness, other hospitals.
from workflow_scripts.ssl_transfer.analysis_plan import (
    ID_OOD_RUN,
    INVARIANCE_RUN,
    KNN_RUN,
    MULTI_VIEW_RUN,
    VIEWS,
    WHITENING,
)

analysis_plan = plan.systems["ssl_transfer"].analysis


wildcard_constraints:
    transform="[a-z_]+",
    k="[0-9]+",
    batch_norm="eval|batch",
    train="|".join(map(re.escape, plan.datasets)),
    finding="[A-Za-z_]+",


rule views:
    input:
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
        index="<results>/datasets/{dataset}/store/short256.parquet",
    output:
        clean=temp(f"<results>/ssl_transfer/views/{VIEWS}.clean.npy"),
        views=temp(f"<results>/ssl_transfer/views/{VIEWS}.npy"),
        index=temp(f"<results>/ssl_transfer/views/{VIEWS}.parquet"),
    log:
        f"<logs>/ssl_transfer/views/{VIEWS}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/views/{VIEWS}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        mem_mb=grows(16000),
        runtime=grows(120),
        disk_mb=lambda w: 16 * (int(w.k) + 1),  # 100 images of 150 kB, k + 1 times
    params:
        root=lambda w: plan.data_folder(w.dataset),
        bit_depth=lambda w: plan.bit_depth_argument(w.dataset),
        slices=lambda w: f"{plan.results}/datasets/{w.dataset}/slices",
        n_images=lambda w: config["ssl_transfer"]["invariance"]["n_images"],
        seed=config["seed"],
        code=code_digest("workflow_scripts.ssl_transfer.views"),
    shell:
        "python -m workflow_scripts.ssl_transfer.views --manifest {input.manifest}"
        " --card {input.card} --store-index {input.index} --root {params.root:q}"
        " {params.bit_depth} --slices {params.slices:q} --transform {wildcards.transform}"
        " --k {wildcards.k} --protocol {wildcards.protocol} --n-images {params.n_images}"
        " --seed {params.seed} --jobs {threads} --clean {output.clean} --views {output.views}"
        " --index {output.index} > {log} 2>&1"


rule whitening:
    input:
        features="<results>/ssl_transfer/features/{checkpoint}/{dataset}/{geometry}-own.npz",
        manifest="<results>/datasets/{dataset}/manifest.parquet",
    output:
        whitening=f"<results>/ssl_transfer/whitening/{{protocol}}-eval/{WHITENING}.npz",
    log:
        f"<logs>/ssl_transfer/whitening/{{protocol}}-eval/{WHITENING}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/whitening/{{protocol}}-eval/{WHITENING}.tsv"
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(20),
    params:
        seed=config["seed"],
        code=code_digest("workflow_scripts.ssl_transfer.whitening"),
    shell:
        "python -m workflow_scripts.ssl_transfer.whitening --features {input.features}"
        " --manifest {input.manifest} --protocol {wildcards.protocol} --seed {params.seed}"
        " --threads {threads} --out {output.whitening} > {log} 2>&1"


rule whitening_batch:  # BatchNorm in training mode, as the released code's last version
    input:
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        store="<results>/datasets/{dataset}/store/{geometry}.npy",
        index="<results>/datasets/{dataset}/store/{geometry}.parquet",
        manifest="<results>/datasets/{dataset}/manifest.parquet",
    output:
        whitening=f"<results>/ssl_transfer/whitening/{{protocol}}-batch/{WHITENING}.npz",
    log:
        f"<logs>/ssl_transfer/whitening/{{protocol}}-batch/{WHITENING}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/whitening/{{protocol}}-batch/{WHITENING}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=grows(32000),
        runtime=grows(40),
    params:
        seed=config["seed"],
        code=code_digest("workflow_scripts.ssl_transfer.whitening"),
    shell:
        "python -m workflow_scripts.ssl_transfer.whitening --backbone {input.backbone}"
        " --certificate {input.certificate} --store {input.store} --store-index {input.index}"
        " --dataset {wildcards.dataset} --manifest {input.manifest}"
        " --protocol {wildcards.protocol} --seed {params.seed} --threads {threads}"
        " --gpus {resources.gpu} --out {output.whitening} > {log} 2>&1"


rule invariance:
    input:
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        clean=f"<results>/ssl_transfer/views/{VIEWS}.clean.npy",
        views=f"<results>/ssl_transfer/views/{VIEWS}.npy",
        index=f"<results>/ssl_transfer/views/{VIEWS}.parquet",
        whitening="<results>/ssl_transfer/whitening/{protocol}-{batch_norm}/{checkpoint}/{dataset}/short256.npz",
    output:
        predictions=f"<results>/ssl_transfer/invariance/{{protocol}}-{{batch_norm}}/{INVARIANCE_RUN}/predictions.parquet",
    log:
        f"<logs>/ssl_transfer/invariance/{{protocol}}-{{batch_norm}}/{INVARIANCE_RUN}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/invariance/{{protocol}}-{{batch_norm}}/{INVARIANCE_RUN}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(20),
    params:
        batch_size=config["ssl_transfer"]["features"]["batch_size"],
        column=lambda w: analysis_plan.invariance_column(w),
        code=code_digest("workflow_scripts.ssl_transfer.invariance"),
    shell:
        "python -m workflow_scripts.ssl_transfer.invariance --backbone {input.backbone}"
        " --certificate {input.certificate} --clean {input.clean} --views {input.views}"
        " --index {input.index} --whitening {input.whitening}"
        " --protocol {wildcards.protocol} --batch-norm {wildcards.batch_norm}"
        " --column {params.column:q} --batch-size {params.batch_size} --threads {threads}"
        " --gpus {resources.gpu} --out {output.predictions} > {log} 2>&1"


rule multi_view:
    input:
        features="<results>/ssl_transfer/features/{checkpoint}/{dataset}/short224-own.npz",
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        whitening="<results>/ssl_transfer/whitening/{protocol}-eval/{checkpoint}/{dataset}/short224.npz",
    output:
        predictions=f"<results>/ssl_transfer/multi_view/{MULTI_VIEW_RUN}/predictions.parquet",
    log:
        f"<logs>/ssl_transfer/multi_view/{MULTI_VIEW_RUN}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/multi_view/{MULTI_VIEW_RUN}.tsv"
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(15),
    params:
        n_images=lambda w: config["ssl_transfer"]["invariance"]["n_images"],
        seed=config["seed"],
        code=lambda w: code_digest(
            "workflow_scripts.ssl_transfer.multi_view",
            f"workflow_scripts.datasets.{plan.datasets[w.dataset]['layout']}",
        ),
    shell:
        "python -m workflow_scripts.ssl_transfer.multi_view --features {input.features}"
        " --manifest {input.manifest} --card {input.card} --certificate {input.certificate}"
        " --whitening {input.whitening} --protocol {wildcards.protocol}"
        " --n-images {params.n_images} --seed {params.seed} --out {output.predictions}"
        " > {log} 2>&1"


rule multi_view_batch:  # BatchNorm in training mode, as the released code's last version
    input:
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        store="<results>/datasets/{dataset}/store/short224.npy",
        index="<results>/datasets/{dataset}/store/short224.parquet",
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
        whitening="<results>/ssl_transfer/whitening/{protocol}-batch/{checkpoint}/{dataset}/short224.npz",
    output:
        predictions=f"<results>/ssl_transfer/multi_view_batch/{MULTI_VIEW_RUN}/predictions.parquet",
    log:
        f"<logs>/ssl_transfer/multi_view_batch/{MULTI_VIEW_RUN}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/multi_view_batch/{MULTI_VIEW_RUN}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(15),
    params:
        n_images=lambda w: config["ssl_transfer"]["invariance"]["n_images"],
        seed=config["seed"],
        code=lambda w: code_digest(
            "workflow_scripts.ssl_transfer.multi_view",
            f"workflow_scripts.datasets.{plan.datasets[w.dataset]['layout']}",
        ),
    shell:
        "python -m workflow_scripts.ssl_transfer.multi_view --backbone {input.backbone}"
        " --certificate {input.certificate} --store {input.store} --store-index {input.index}"
        " --manifest {input.manifest} --card {input.card} --whitening {input.whitening}"
        " --protocol {wildcards.protocol} --n-images {params.n_images} --seed {params.seed}"
        " --gpus {resources.gpu} --out {output.predictions} > {log} 2>&1"


rule perceptual:
    input:
        originals=lambda w: analysis_plan.reconstructions(
            w.protocol, w.dataset, "original.png"
        )[:1],
        reconstructions=lambda w: analysis_plan.reconstructions(
            w.protocol, w.dataset, "reconstruction.png"
        ),
        certificates=expand(
            "<results>/checkpoints/{checkpoint}/certificate.json",
            checkpoint=analysis_plan.reconstructed(),
        ),
        card="<results>/datasets/{dataset}/card.json",
        trunks=analysis_plan.trunk_files("backbone.safetensors"),
        trunk_certificates=analysis_plan.trunk_files("certificate.json"),
    output:
        predictions=analysis_plan.perceptual_outputs("{protocol}", "{dataset}"),
    log:
        "<logs>/ssl_transfer/perceptual/{protocol}/{dataset}.log",
    benchmark:
        "<benchmarks>/ssl_transfer/perceptual/{protocol}/{dataset}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        mem_mb=grows(8000),
        runtime=grows(15),
    params:
        seed=config["seed"],
        code=code_digest("workflow_scripts.ssl_transfer.perceptual"),
    shell:
        "python -m workflow_scripts.ssl_transfer.perceptual --originals {input.originals}"
        " --reconstructions {input.reconstructions} --certificates {input.certificates}"
        " --card {input.card} --trunks {input.trunks}"
        " --trunk-certificates {input.trunk_certificates} --protocol {wildcards.protocol}"
        " --seed {params.seed} --threads {threads} --out {output.predictions} > {log} 2>&1"


rule perceptual_csv:
    input:
        predictions=lambda w: [
            path
            for column in analysis_plan.columns("perceptual")
            for path in analysis_plan.perceptual_outputs(w.protocol, column["dataset"])
        ],
    output:
        csv="<results>/ssl_transfer/perceptual/{protocol}/{net}_distances.csv",
    log:
        "<logs>/ssl_transfer/perceptual/{protocol}/{net}_distances.log",
    benchmark:
        "<benchmarks>/ssl_transfer/perceptual/{protocol}/{net}_distances.tsv"
    wildcard_constraints:
        net="alexnet|vgg|squeezenet|average",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        metric=lambda w: "lpips" if w.net == "average" else f"lpips_{w.net}",
        code=code_digest("workflow_scripts.ssl_transfer.perceptual_csv"),
    shell:
        "python -m workflow_scripts.ssl_transfer.perceptual_csv"
        " --predictions {input.predictions} --metric {params.metric} --out {output.csv}"
        " > {log} 2>&1"


rule knn:
    input:
        features="<results>/ssl_transfer/features/{checkpoint}/{dataset}/short224-own.npz",
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        leak_free="<results>/datasets/{dataset}/leak_free.json",
    output:
        predictions=f"<results>/ssl_transfer/knn/{KNN_RUN}/predictions.parquet",
    log:
        f"<logs>/ssl_transfer/knn/{KNN_RUN}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/knn/{KNN_RUN}.tsv"
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(16000),
        runtime=grows(60),
    params:
        neighbours=lambda w: config["ssl_transfer"]["knn"]["neighbours"],
        temperature=lambda w: config["ssl_transfer"]["knn"]["temperature"],
        code=code_digest("workflow_scripts.ssl_transfer.knn"),
    shell:
        "python -m workflow_scripts.ssl_transfer.knn --features {input.features}"
        " --manifest {input.manifest} --card {input.card} --certificate {input.certificate}"
        " --leak-free {input.leak_free} --protocol corrected"
        " --neighbours {params.neighbours} --temperature {params.temperature}"
        " --out {output.predictions} > {log} 2>&1"


rule cka:
    input:
        features=lambda w: [
            analysis_plan.features(checkpoint, w.dataset)
            for checkpoint in analysis_plan.checkpoints
        ],
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
    output:
        pairs=analysis_plan.cka_pairs("{dataset}"),
    log:
        "<logs>/ssl_transfer/cka/{dataset}.log",
    benchmark:
        "<benchmarks>/ssl_transfer/cka/{dataset}.tsv"
    conda:
        "../envs/statistics.yaml"
    threads: 2
    resources:
        mem_mb=grows(16000),
        runtime=grows(30),
    params:
        n_images=lambda w: config["ssl_transfer"]["cka"]["n_images"],
        seed=config["seed"],
        code=code_digest("workflow_scripts.ssl_transfer.cka"),
    shell:
        "python -m workflow_scripts.ssl_transfer.cka --features {input.features}"
        " --manifest {input.manifest} --card {input.card} --n-images {params.n_images}"
        " --seed {params.seed} --threads {threads} --out {output.pairs} > {log} 2>&1"


# one rule an experiment: how many data sets a probe is tested on depends on it
for experiment in analysis_plan.id_ood_experiments():

    rule:
        name:
            f"id_ood_{experiment}"
        input:
            features=lambda w, experiment=experiment: [
                analysis_plan.features(w.checkpoint, dataset)
                for dataset in analysis_plan.tested(experiment)
            ],
            manifests=plan.of_experiment(experiment, "manifest.parquet"),
            cards=plan.of_experiment(experiment, "card.json"),
            leak_free=plan.of_experiment(experiment, "leak_free.json"),
            certificate="<results>/checkpoints/{checkpoint}/certificate.json",
            together=f"<results>/experiments/{experiment}/leak_free.json",
        output:
            predictions=analysis_plan.id_ood_patterns(experiment),
        log:
            f"<logs>/ssl_transfer/id_ood/{experiment}/{ID_OOD_RUN}.log",
        benchmark:
            f"<benchmarks>/ssl_transfer/id_ood/{experiment}/{ID_OOD_RUN}.tsv"
        conda:
            "../envs/statistics.yaml"
        resources:
            mem_mb=grows(30000),
            runtime=grows(240),
        params:
            finding=lambda w: analysis_plan.finding_argument(w.finding),
            code=code_digest("workflow_scripts.ssl_transfer.id_ood"),
        shell:
            "python -m workflow_scripts.ssl_transfer.id_ood --train {wildcards.train}"
            " --features {input.features} --manifests {input.manifests}"
            " --cards {input.cards} --leak-free {input.leak_free}"
            " --certificate {input.certificate} --experiment-leak-free {input.together}"
            " {params.finding} --seed {wildcards.seed} --threads {threads}"
            " --out {output.predictions:q} > {log} 2>&1"


rule correlations:
    input:
        tables=expand(
            "<results>/tables/{table}.csv", table=analysis_plan.analysed_tables()
        ),
    output:
        csv=report(
            expand("<results>/tables/{table}.csv", table=analysis_plan.other_tables()),
            caption="../workflow_scripts/report/captions/table.rst",
            category="Tables",
            labels={"table": "ssl_transfer analysis", "content": "long form"},
        ),
        texts=expand(
            "<results>/tables/{table}.{suffix}",
            table=analysis_plan.other_tables(),
            suffix=["md", "tex"],
        ),
    log:
        "<logs>/ssl_transfer/correlations.log",
    benchmark:
        "<benchmarks>/ssl_transfer/correlations.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        analysis=lambda w: as_json(analysis_plan.analysis_section()),
        folder=lambda w, output: os.path.dirname(output[0]),
        code=code_digest("workflow_scripts.report.correlations"),
    shell:
        "python -m workflow_scripts.report.correlations --tables {input.tables}"
        " --analysis {params.analysis:q} --out {params.folder:q} > {log} 2>&1"


rule scatter:
    input:
        tables=rules.correlations.input.tables,
    output:
        figure=report(
            "<results>/figures/ssl_transfer_against_{predictor}.png",
            caption="../workflow_scripts/report/captions/figure.rst",
            category="Figures",
            labels={"table": "transfer against {predictor}", "content": "png"},
        ),
    log:
        "<logs>/ssl_transfer/scatter/{predictor}.log",
    benchmark:
        "<benchmarks>/ssl_transfer/scatter/{predictor}.tsv"
    wildcard_constraints:
        predictor="|".join(map(re.escape, analysis_plan.predictors())) or "none",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        analysis=lambda w: as_json(analysis_plan.analysis_section()),
        code=code_digest("workflow_scripts.report.scatter"),
    shell:
        "python -m workflow_scripts.report.scatter --tables {input.tables}"
        " --analysis {params.analysis:q} --predictor {wildcards.predictor:q}"
        " --out {output.figure:q} > {log:q} 2>&1"


rule ssl_transfer:
    input:
        expand(
            "<results>/tables/{table}.{suffix}",
            table=[*ssl_plan.tables(), *ssl_plan.other_tables()],
            suffix=["csv", "md", "tex", "png"],
        ),
        ssl_plan.training.figures(),
        expand(rules.scatter.output.figure, predictor=analysis_plan.predictors()),
        analysis_plan.distance_files(),
    localrule: True
