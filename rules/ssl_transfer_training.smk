# Fine-tuning, occlusion saliency and reconstruction: what needs a GPU for minutes to hours.
from workflow_scripts.ssl_transfer.training_plan import (
    FINETUNE_RUN,
    RECONSTRUCTION_RUN,
    SALIENCY_RUN,
)

ssl_training = plan.systems["ssl_transfer"].training
SSL_STATE = f"{config['pathvars']['state']}/ssl_transfer"
SSL_FINETUNE = config["ssl_transfer"]["finetune"]
SSL_SALIENCY = config["ssl_transfer"]["saliency"]
SSL_RECONSTRUCTION = config["ssl_transfer"]["reconstruction"]


wildcard_constraints:
    bn="eval|released",
    candidate="[0-9]+",


rule decoded:
    input:
        manifest="<results>/datasets/{dataset}/manifest.parquet",
    output:
        images="<results>/datasets/{dataset}/decoded/images.bin",
        index="<results>/datasets/{dataset}/decoded/images.parquet",
        quarantine="<results>/datasets/{dataset}/decoded/quarantine.csv",
    log:
        "<logs>/decoded/{dataset}.log",
    benchmark:
        "<benchmarks>/decoded/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=grows(16000),
        runtime=grows(240),
    params:
        root=lambda w: plan.data_folder(w.dataset),
        bit_depth=lambda w: plan.bit_depth_argument(w.dataset),
        code=code_digest("workflow_scripts.datasets.decoded"),
    shell:
        "python -m workflow_scripts.datasets.decoded --manifest {input.manifest}"
        " --root {params.root:q} {params.bit_depth} --jobs {threads} --images {output.images}"
        " --index {output.index} --quarantine {output.quarantine} > {log} 2>&1"


rule finetune_search:
    input:
        unpack(lambda w: ssl_training.finetune_pixels(w.dataset)),
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
        leak_free="<results>/datasets/{dataset}/leak_free.json",
        store="<results>/datasets/{dataset}/store/short224.npy",
        index="<results>/datasets/{dataset}/store/short224.parquet",
    output:
        candidate=f"<results>/ssl_transfer/finetune_search/{FINETUNE_RUN}/{{candidate}}.json",
    log:
        f"<logs>/ssl_transfer/finetune_search/{FINETUNE_RUN}/{{candidate}}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/finetune_search/{FINETUNE_RUN}/{{candidate}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mpi="",
        nodes=1,
        tasks=1,
        processes=1,
        mem_mb=grows(64000),
        runtime=grows(180),
    params:
        options=lambda w: ssl_training.finetune_options(w.dataset),
        pixels=lambda w: ssl_training.finetune_pixel_words(w.dataset),
        root=lambda w: plan.data_folder(w.dataset),
        bit_depth=lambda w: plan.bit_depth_argument(w.dataset),
        # a function of threads is not recorded: other workers change no result
        workers=lambda w, threads: SSL_FINETUNE["workers"],
        grid_size=SSL_FINETUNE["grid_size"],
        state=f"{SSL_STATE}/finetune_search/{FINETUNE_RUN}/{{candidate}}",
        code=code_digest("workflow_scripts.ssl_transfer.finetune_search"),
    shell:
        "python -m workflow_scripts.launch --mpi={resources.mpi:q} --nodes {resources.nodes}"
        " --processes {resources.processes} --gpus {resources.gpu} --threads {threads}"
        " --minutes {resources.runtime} -m workflow_scripts.ssl_transfer.finetune_search"
        " --backbone {input.backbone} --certificate {input.certificate}"
        " --manifest {input.manifest} --card {input.card} --leak-free {input.leak_free}"
        " --store {input.store} --index {input.index} --root {params.root:q} {params.bit_depth}"
        " {params.pixels} --protocol {wildcards.protocol} --seed {wildcards.seed}"
        " {params.options} --workers {params.workers} --grid-size {params.grid_size}"
        " --candidate {wildcards.candidate} --state {params.state:q} --on-mismatch fresh"
        " --out {output.candidate} > {log} 2>&1"


rule finetune:
    input:
        unpack(lambda w: ssl_training.finetune_pixels(w.dataset)),
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
        leak_free="<results>/datasets/{dataset}/leak_free.json",
        store="<results>/datasets/{dataset}/store/short224.npy",
        index="<results>/datasets/{dataset}/store/short224.parquet",
        candidates=lambda w: ssl_training.finetune_candidates(
            w.protocol, w.checkpoint, w.dataset, w.seed
        ),
    output:
        predictions=f"<results>/ssl_transfer/finetune/{FINETUNE_RUN}/predictions.parquet",
        history=f"<results>/ssl_transfer/finetune/{FINETUNE_RUN}/history.csv",
    log:
        f"<logs>/ssl_transfer/finetune/{FINETUNE_RUN}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/finetune/{FINETUNE_RUN}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        # several GPUs: the profile sets gpu and processes to their number
        gpu=1,
        mpi="",
        nodes=1,
        tasks=1,
        processes=1,
        mem_mb=grows(64000),
        runtime=grows(180),
    params:
        options=lambda w: ssl_training.finetune_options(w.dataset),
        pixels=lambda w: ssl_training.finetune_pixel_words(w.dataset),
        column=lambda w: ssl_training.column_of("finetune", w.dataset).get(
            "column", w.dataset
        ),
        candidates=lambda w, input: "--candidates" if input.candidates else "",
        root=lambda w: plan.data_folder(w.dataset),
        bit_depth=lambda w: plan.bit_depth_argument(w.dataset),
        # a function of threads is not recorded: other workers change no result
        workers=lambda w, threads: SSL_FINETUNE["workers"],
        state=f"{SSL_STATE}/finetune/{FINETUNE_RUN}",
        code=code_digest("workflow_scripts.ssl_transfer.finetune"),
    shell:
        "python -m workflow_scripts.launch --mpi={resources.mpi:q} --nodes {resources.nodes}"
        " --processes {resources.processes} --gpus {resources.gpu} --threads {threads}"
        " --minutes {resources.runtime} -m workflow_scripts.ssl_transfer.finetune"
        " --backbone {input.backbone} --certificate {input.certificate}"
        " --manifest {input.manifest} --card {input.card} --leak-free {input.leak_free}"
        " --store {input.store} --index {input.index} --root {params.root:q} {params.bit_depth}"
        " {params.pixels} --protocol {wildcards.protocol} --seed {wildcards.seed}"
        " {params.options} --workers {params.workers} {params.candidates} {input.candidates}"
        " --column {params.column:q} --state {params.state:q} --on-mismatch fresh"
        " --history {output.history} --out {output.predictions} > {log} 2>&1"


rule saliency:
    input:
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
    output:
        predictions=f"<results>/ssl_transfer/saliency/{SALIENCY_RUN}/predictions.parquet",
        maps=f"<results>/ssl_transfer/saliency/{SALIENCY_RUN}/maps.npz",
    log:
        f"<logs>/ssl_transfer/saliency/{SALIENCY_RUN}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/saliency/{SALIENCY_RUN}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=grows(32000),
        runtime=grows(20),
    params:
        images=lambda w: ssl_training.image_words("saliency", w.dataset),
        column=lambda w: ssl_training.saliency_column(w.dataset, w.bn),
        root=lambda w: plan.data_folder(w.dataset),
        bit_depth=lambda w: plan.bit_depth_argument(w.dataset),
        # one value with names: of many, Snakemake notices no swap
        knobs={
            "image_size": SSL_SALIENCY["image_size"],
            "window": SSL_SALIENCY["window"],
            "stride": SSL_SALIENCY["stride"],
            "batch_size": SSL_SALIENCY["batch_size"],
            "seed": config["seed"],
        },
        state=f"{SSL_STATE}/saliency/{SALIENCY_RUN}",
        code=code_digest("workflow_scripts.ssl_transfer.saliency"),
    shell:
        "python -m workflow_scripts.ssl_transfer.saliency --backbone {input.backbone}"
        " --certificate {input.certificate} --manifest {input.manifest} --card {input.card}"
        " --root {params.root:q} {params.bit_depth} {params.images} --bn {wildcards.bn}"
        " --protocol {wildcards.protocol} --seed {params.knobs[seed]}"
        " --image-size {params.knobs[image_size]} --window {params.knobs[window]}"
        " --stride {params.knobs[stride]} --batch-size {params.knobs[batch_size]}"
        " --threads {threads} --gpus {resources.gpu} --column {params.column:q}"
        " --state {params.state:q} --maps {output.maps} --out {output.predictions} > {log} 2>&1"


rule saliency_figure:
    input:
        maps=lambda w: ssl_training.stage_files(
            "saliency", SALIENCY_RUN, "maps.npz", **w
        ),
    output:
        figure=report(
            "<results>/figures/ssl_transfer_saliency_{protocol}_{dataset}_bn-{bn}.png",
            caption="../workflow_scripts/report/captions/saliency.rst",
            category="Figures",
            labels={
                "table": "ssl_transfer_saliency",
                "content": "{dataset}, {protocol}",
            },
        ),
    log:
        "<logs>/ssl_transfer/saliency_figure/{protocol}_{dataset}_bn-{bn}.log",
    benchmark:
        "<benchmarks>/ssl_transfer/saliency_figure/{protocol}_{dataset}_bn-{bn}.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.ssl_transfer.saliency_figure"),
    shell:
        "python -m workflow_scripts.ssl_transfer.saliency_figure --maps {input.maps}"
        " --out {output.figure} > {log} 2>&1"


rule reconstruction:
    input:
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
    output:
        losses=f"<results>/ssl_transfer/reconstruction/{RECONSTRUCTION_RUN}/reconstruction.json",
        image=f"<results>/ssl_transfer/reconstruction/{RECONSTRUCTION_RUN}/reconstruction.png",
        original=f"<results>/ssl_transfer/reconstruction/{RECONSTRUCTION_RUN}/original.png",
    log:
        f"<logs>/ssl_transfer/reconstruction/{RECONSTRUCTION_RUN}.log",
    benchmark:
        f"<benchmarks>/ssl_transfer/reconstruction/{RECONSTRUCTION_RUN}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=grows(32000),
        runtime=grows(30),
    params:
        images=lambda w: ssl_training.image_words("reconstruction", w.dataset),
        root=lambda w: plan.data_folder(w.dataset),
        bit_depth=lambda w: plan.bit_depth_argument(w.dataset),
        iterations=SSL_RECONSTRUCTION["iterations"],
        image_size=SSL_RECONSTRUCTION["image_size"],
        layer=SSL_RECONSTRUCTION["layer"],
        seed=config["seed"],
        state=f"{SSL_STATE}/reconstruction/{RECONSTRUCTION_RUN}",
        code=code_digest("workflow_scripts.ssl_transfer.reconstruction"),
    shell:
        "python -m workflow_scripts.launch --gpus {resources.gpu} --threads {threads}"
        " --minutes {resources.runtime} -m workflow_scripts.ssl_transfer.reconstruction"
        " --backbone {input.backbone}"
        " --certificate {input.certificate} --manifest {input.manifest} --card {input.card}"
        " --root {params.root:q} {params.bit_depth} {params.images}"
        " --protocol {wildcards.protocol} --seed {params.seed} --layer {params.layer}"
        " --iterations {params.iterations} --image-size {params.image_size}"
        " --state {params.state:q} --on-mismatch fresh --image-out {output.image}"
        " --original-out {output.original} --out {output.losses} > {log} 2>&1"


rule reconstruction_figure:
    input:
        losses=lambda w: ssl_training.stage_files(
            "reconstruction", RECONSTRUCTION_RUN, "reconstruction.json", **w
        ),
    output:
        figure=report(
            "<results>/figures/ssl_transfer_reconstruction_{protocol}_{dataset}.png",
            caption="../workflow_scripts/report/captions/reconstruction.rst",
            category="Figures",
            labels={
                "table": "ssl_transfer_reconstruction",
                "content": "{dataset}, {protocol}",
            },
        ),
    log:
        "<logs>/ssl_transfer/reconstruction_figure/{protocol}_{dataset}.log",
    benchmark:
        "<benchmarks>/ssl_transfer/reconstruction_figure/{protocol}_{dataset}.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.ssl_transfer.reconstruction_figure"),
    shell:
        "python -m workflow_scripts.ssl_transfer.reconstruction_figure --losses {input.losses}"
        " --out {output.figure} > {log} 2>&1"
