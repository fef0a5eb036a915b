# Can a frozen, even black-box, foundation model be made fairer?
from workflow_scripts.debiased_noise.plan import EDIT, EDIT_FIGURE, EDITED, HEAD_RUN

dne = plan.systems["debiased_noise"]
DNE = config["debiased_noise"]
DNE_TOP = "<results>/debiased_noise"
DNE_STATE = f"{config['pathvars']['state']}/debiased_noise"
DNE_COHORT = {
    "manifest": "<results>/datasets/{dataset}/manifest.parquet",
    "card": "<results>/datasets/{dataset}/card.json",
    "leak_free": "<results>/datasets/{dataset}/leak_free.json",
}
DNE_MODEL = {
    "backbone": "<results>/checkpoints/{checkpoint}/backbone.safetensors",
    "certificate": "<results>/checkpoints/{checkpoint}/certificate.json",
}
DNE_READ_OUT = "|".join(map(re.escape, [*DNE["read_outs"], *plan.checkpoints]))

# command lines that several steps share
DNE_COHORT_WORDS = (
    " --manifest {input.manifest} --card {input.card} --leak-free {input.leak_free}"
    " --attribute {params.attribute} --seed {wildcards.seed} --threads {threads}"
    " --gpus {resources.gpu} --minutes {resources.runtime} --state {params.state:q}"
    " --on-mismatch fresh"
)
DNE_EDIT_WORDS = (
    " --backbone {input.backbone} --certificate {input.certificate} --store {input.store}"
    " --index {input.index} --classifier {input.classifier} --lambda-1 {params.knobs[lambda_1]}"
    " --lambda-reg {params.knobs[lambda_reg]} --images-per-batch {params.knobs[batch_size]}"
)

DNE_EDITS = f"{DNE_TOP}/edits/{{protocol}}/{{checkpoint}}/{{dataset}}"
DNE_CLASSIFIER = (
    f"{DNE_TOP}/attribute/{{protocol}}/{{checkpoint}}/{{dataset}}/seed{{seed}}"
)
DNE_RETRAINED = (
    f"{DNE_TOP}/retrained/{{checkpoint}}/{{dataset}}/{{edited}}/seed{{seed}}"
)


rule dne_embed:
    input:
        unpack(lambda w: dne.images(w.checkpoint, w.dataset)),
        **DNE_MODEL,
        card=DNE_COHORT["card"],
    output:
        embeddings=f"{DNE_TOP}/embeddings/{{checkpoint}}/{{dataset}}/unedited.npz",
    log:
        f"<logs>/debiased_noise/embed/{{checkpoint}}/{{dataset}}/unedited.log",
    benchmark:
        f"<benchmarks>/debiased_noise/embed/{{checkpoint}}/{{dataset}}/unedited.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(20),
    params:
        batch_size=DNE["forward_batch"],
        code=code_digest("workflow_scripts.debiased_noise.embed"),
    shell:
        "python -m workflow_scripts.debiased_noise.embed --backbone {input.backbone}"
        " --certificate {input.certificate} --store {input.store} --index {input.index}"
        " --card {input.card} --batch-size {params.batch_size} --threads {threads}"
        " --gpus {resources.gpu} --out {output.embeddings} > {log} 2>&1"


rule dne_embed_edited:
    input:
        unpack(lambda w: dne.images(w.checkpoint, w.dataset)),
        **DNE_MODEL,
        card=DNE_COHORT["card"],
        edit=lambda w: dne.edit(
            w.protocol, w.edit_checkpoint, w.dataset, w.method, w.seed
        ),
    output:
        embeddings=f"{DNE_TOP}/embeddings/{{checkpoint}}/{{dataset}}/{EDITED}.npz",
    log:
        f"<logs>/debiased_noise/embed/{{checkpoint}}/{{dataset}}/{EDITED}.log",
    benchmark:
        f"<benchmarks>/debiased_noise/embed/{{checkpoint}}/{{dataset}}/{EDITED}.tsv"
    wildcard_constraints:
        method="[a-z_]+",
        edit_checkpoint="|".join(map(re.escape, plan.checkpoints)),
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(20),
    params:
        batch_size=DNE["forward_batch"],
        code=code_digest("workflow_scripts.debiased_noise.embed"),
    shell:
        "python -m workflow_scripts.debiased_noise.embed --backbone {input.backbone}"
        " --certificate {input.certificate} --store {input.store} --index {input.index}"
        " --card {input.card} --edit {input.edit} --batch-size {params.batch_size}"
        " --threads {threads} --gpus {resources.gpu} --out {output.embeddings} > {log} 2>&1"


rule attribute_classifier:
    input:
        unpack(
            lambda w: dne.live_files("attribute", w.protocol, w.checkpoint, w.dataset)
        ),
        **DNE_COHORT,
        embeddings=f"{DNE_TOP}/embeddings/{{checkpoint}}/{{dataset}}/unedited.npz",
    output:
        classifier=f"{DNE_CLASSIFIER}/attribute_classifier.safetensors",
        card=f"{DNE_CLASSIFIER}/attribute_classifier.json",
    log:
        f"<logs>/debiased_noise/attribute/{{protocol}}/{{checkpoint}}/{{dataset}}/seed{{seed}}.log",
    benchmark:
        f"<benchmarks>/debiased_noise/attribute/{{protocol}}/{{checkpoint}}/{{dataset}}/seed{{seed}}.tsv"
    wildcard_constraints:
        protocol="corrected",
    conda:
        "../envs/torch.yaml"
    resources:
        gpu=0,  # a linear classifier on cached embeddings
        mem_mb=grows(4000),
        runtime=grows(10),
    params:
        knobs=DNE["attribute"],
        attribute=lambda w: dne.attribute(w.dataset),
        live=lambda w: dne.live_words("attribute", w.protocol, w.checkpoint, w.dataset),
        state=f"{DNE_STATE}/attribute/{{protocol}}/{{checkpoint}}/{{dataset}}/seed{{seed}}",
        code=code_digest("workflow_scripts.debiased_noise.attribute_classifier"),
    shell:
        "python -m workflow_scripts.debiased_noise.attribute_classifier"
        " --embeddings {input.embeddings} {params.live} --protocol {wildcards.protocol}"
        " --epochs {params.knobs[epochs]} --lr {params.knobs[lr]}"
        " --images-per-batch {params.knobs[batch_size]}"
        + DNE_COHORT_WORDS
        + " --out {output.classifier} > {log} 2>&1"


# the whole network runs at every step, as nothing can be cached
use rule attribute_classifier as attribute_classifier_live with:
    wildcard_constraints:
        protocol="released",
    threads: 4
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(120),


rule dne_retrained:
    input:
        unpack(dne.edit_of_embeddings),
        **DNE_COHORT,
        embeddings=f"{DNE_TOP}/embeddings/{{checkpoint}}/{{dataset}}/{{edited}}.npz",
    output:
        classifier=f"{DNE_RETRAINED}/attribute_classifier.safetensors",
        card=f"{DNE_RETRAINED}/attribute_classifier.json",
    log:
        f"<logs>/debiased_noise/retrained/{{checkpoint}}/{{dataset}}/{{edited}}/seed{{seed}}.log",
    benchmark:
        f"<benchmarks>/debiased_noise/retrained/{{checkpoint}}/{{dataset}}/{{edited}}/seed{{seed}}.tsv"
    wildcard_constraints:
        edited="[^/]+",
    conda:
        "../envs/torch.yaml"
    resources:
        gpu=0,
        mem_mb=grows(4000),
        runtime=grows(10),
    params:
        knobs=DNE["attribute"],
        attribute=lambda w: dne.attribute(w.dataset),
        edit=lambda w, input: f"--edit {input.edit}" if hasattr(input, "edit") else "",
        state=f"{DNE_STATE}/retrained/{{checkpoint}}/{{dataset}}/{{edited}}/seed{{seed}}",
        code=code_digest("workflow_scripts.debiased_noise.attribute_classifier"),
    shell:
        "python -m workflow_scripts.debiased_noise.attribute_classifier"
        " --embeddings {input.embeddings} {params.edit} --protocol corrected"
        " --epochs {params.knobs[epochs]} --lr {params.knobs[lr]}"
        " --images-per-batch {params.knobs[batch_size]}"
        + DNE_COHORT_WORDS
        + " --out {output.classifier} > {log} 2>&1"


rule white_box:
    input:
        unpack(lambda w: dne.images(w.checkpoint, w.dataset)),
        **DNE_MODEL,
        **DNE_COHORT,
        classifier=f"{DNE_CLASSIFIER}/attribute_classifier.safetensors",
    output:
        edit=f"{DNE_EDITS}/white_box/seed{{seed}}/noise_edit.safetensors",
        card=f"{DNE_EDITS}/white_box/seed{{seed}}/noise_edit.json",
        history=f"{DNE_EDITS}/white_box/seed{{seed}}/history.csv",
    log:
        f"<logs>/debiased_noise/edits/{{protocol}}/{{checkpoint}}/{{dataset}}/white_box/seed{{seed}}.log",
    benchmark:
        f"<benchmarks>/debiased_noise/edits/{{protocol}}/{{checkpoint}}/{{dataset}}/white_box/seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=grows(32000),
        runtime=grows(120),
    params:
        knobs=DNE["edit"] | DNE["white_box"],
        attribute=lambda w: dne.attribute(w.dataset),
        state=f"{DNE_STATE}/edits/{{protocol}}/{{checkpoint}}/{{dataset}}/white_box/seed{{seed}}",
        code=code_digest("workflow_scripts.debiased_noise.white_box"),
    shell:
        "python -m workflow_scripts.debiased_noise.white_box --protocol {wildcards.protocol}"
        + DNE_EDIT_WORDS
        + DNE_COHORT_WORDS
        + " --epochs {params.knobs[epochs]} --lr {params.knobs[lr]}"
        " --micro-batch {params.knobs[micro_batch]} --history {output.history}"
        " --out {output.edit} > {log} 2>&1"


rule black_box:
    input:
        unpack(lambda w: dne.images(w.checkpoint, w.dataset)),
        **DNE_MODEL,
        **DNE_COHORT,
        classifier=f"{DNE_CLASSIFIER}/attribute_classifier.safetensors",
    output:
        edit=f"{DNE_EDITS}/gezo_{{form}}/seed{{seed}}/noise_edit.safetensors",
        card=f"{DNE_EDITS}/gezo_{{form}}/seed{{seed}}/noise_edit.json",
        history=f"{DNE_EDITS}/gezo_{{form}}/seed{{seed}}/history.csv",
    log:
        f"<logs>/debiased_noise/edits/{{protocol}}/{{checkpoint}}/{{dataset}}/gezo_{{form}}/seed{{seed}}.log",
    benchmark:
        f"<benchmarks>/debiased_noise/edits/{{protocol}}/{{checkpoint}}/{{dataset}}/gezo_{{form}}/seed{{seed}}.tsv"
    wildcard_constraints:
        form="released|paper",
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(60),
    params:
        knobs=lambda w: DNE["edit"] | DNE["gezo"] | DNE["gezo"][w.form],
        batch_size=DNE["forward_batch"],
        attribute=lambda w: dne.attribute(w.dataset),
        state=f"{DNE_STATE}/edits/{{protocol}}/{{checkpoint}}/{{dataset}}/gezo_{{form}}/seed{{seed}}",
        code=code_digest("workflow_scripts.debiased_noise.black_box"),
    shell:
        "python -m workflow_scripts.debiased_noise.black_box --form {wildcards.form}"
        + DNE_EDIT_WORDS
        + DNE_COHORT_WORDS
        + " --updates {params.knobs[updates]} --init-step {params.knobs[init_step]}"
        " --sampled-steps {params.knobs[sampled_steps]} --momentum {params.knobs[momentum]}"
        " --accept {params.knobs[accept]} --batch-size {params.batch_size}"
        " --history {output.history} --out {output.edit} > {log} 2>&1"


rule gaussian_edit:
    input:
        like=f"{DNE_EDITS}/{{learned}}/seed{{seed}}/noise_edit.safetensors",
    output:
        edit=f"{DNE_EDITS}/gaussian_{{learned}}/seed{{seed}}/noise_edit.safetensors",
        card=f"{DNE_EDITS}/gaussian_{{learned}}/seed{{seed}}/noise_edit.json",
    log:
        f"<logs>/debiased_noise/edits/{{protocol}}/{{checkpoint}}/{{dataset}}/gaussian_{{learned}}/seed{{seed}}.log",
    benchmark:
        f"<benchmarks>/debiased_noise/edits/{{protocol}}/{{checkpoint}}/{{dataset}}/gaussian_{{learned}}/seed{{seed}}.tsv"
    wildcard_constraints:
        learned="white_box|gezo_released|gezo_paper",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(10),
    params:
        code=code_digest("workflow_scripts.debiased_noise.gaussian_edit"),
    shell:
        "python -m workflow_scripts.debiased_noise.gaussian_edit --like {input.like}"
        " --seed {wildcards.seed} --out {output.edit} > {log} 2>&1"


rule disease_head:
    input:
        unpack(
            lambda w: dne.live_files(
                "head", w.protocol, dne.checkpoint("head", w.read_out), w.dataset
            )
        ),
        **DNE_COHORT,
        edit=dne.edit_of_run,
        embeddings=lambda w: dne.embeddings(w, "head"),
        frozen=dne.frozen,
        frozen_embeddings=lambda w: dne.embeddings(w, "edit"),
        retrained=dne.retrained,
    output:
        predictions=f"{DNE_TOP}/heads/{HEAD_RUN}/predictions.parquet",
        course=f"{DNE_TOP}/heads/{HEAD_RUN}/course.parquet",
        history=f"{DNE_TOP}/heads/{HEAD_RUN}/history.csv",
    log:
        f"<logs>/debiased_noise/heads/{HEAD_RUN}.log",
    benchmark:
        f"<benchmarks>/debiased_noise/heads/{HEAD_RUN}.tsv"
    wildcard_constraints:
        method="[a-z_]+",
        read_out=DNE_READ_OUT,
        protocol="corrected",
    conda:
        "../envs/torch.yaml"
    resources:
        gpu=0,
        mem_mb=grows(4000),
        runtime=grows(10),
    params:
        knobs=DNE["head"],
        table=dne.table_of,
        column=lambda w: dne.column_word(w.dataset),
        attribute=lambda w: dne.attribute(w.dataset),
        edit=dne.edit_word,
        live=lambda w: dne.live_words(
            "head", w.protocol, dne.checkpoint("head", w.read_out), w.dataset
        ),
        state=f"{DNE_STATE}/heads/{HEAD_RUN}",
        code=code_digest("workflow_scripts.debiased_noise.disease_head"),
    shell:
        "python -m workflow_scripts.debiased_noise.disease_head --embeddings {input.embeddings}"
        " {params.edit} {params.live} --protocol {wildcards.protocol} --method {wildcards.method}"
        " --read-out {wildcards.read_out} --table {params.table} {params.column}"
        " --frozen {input.frozen}"
        " --frozen-embeddings {input.frozen_embeddings} --retrained {input.retrained}"
        " --epochs {params.knobs[epochs]} --lr {params.knobs[lr]}"
        " --images-per-batch {params.knobs[batch_size]}"
        + DNE_COHORT_WORDS
        + " --schedule {params.knobs[schedule]} --history {output.history}"
        " --course {output.course} --out {output.predictions} > {log} 2>&1"


use rule disease_head as disease_head_live with:
    wildcard_constraints:
        method="[a-z_]+",
        read_out=DNE_READ_OUT,
        protocol="released",
    threads: 4
    resources:
        gpu=1,
        mem_mb=grows(16000),
        runtime=grows(120),


rule dne_picture:
    input:
        unpack(lambda w: dne.images(w.checkpoint, w.dataset)),
        **DNE_COHORT,
        edit=lambda w: dne.edit(w.protocol, w.checkpoint, w.dataset, w.method, w.seed),
    output:
        figure=report(
            f"<results>/figures/debiased_noise_edit-{EDIT_FIGURE}.png",
            caption="../workflow_scripts/report/captions/noise_edit.rst",
            category="Figures",
            labels={"table": "noise edit", "content": "{method}, {checkpoint}"},
        ),
    log:
        f"<logs>/debiased_noise/picture/{EDIT_FIGURE}.log",
    benchmark:
        f"<benchmarks>/debiased_noise/picture/{EDIT_FIGURE}.tsv"
    wildcard_constraints:
        method="[a-z_]+",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(10),
    params:
        attribute=lambda w: dne.attribute(w.dataset),
        code=code_digest("workflow_scripts.debiased_noise.picture"),
    shell:
        "python -m workflow_scripts.debiased_noise.picture --edit {input.edit} --store {input.store}"
        " --index {input.index} --manifest {input.manifest} --card {input.card}"
        " --leak-free {input.leak_free} --attribute {params.attribute}"
        " --out {output.figure} > {log} 2>&1"


rule fairness_plane:
    input:
        csv="<results>/tables/{table}.csv",
    output:
        figure=report(
            "<results>/figures/{table}_plane.png",
            caption="../workflow_scripts/report/captions/fairness_plane.rst",
            category="Figures",
            labels={"table": "{table}", "content": "plane"},
        ),
    log:
        "<logs>/debiased_noise/{table}_plane.log",
    benchmark:
        "<benchmarks>/debiased_noise/{table}_plane.tsv"
    wildcard_constraints:
        table="debiased_noise_[a-z]+",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(10),
    params:
        code=code_digest("workflow_scripts.report.fairness_plane"),
    shell:
        "python -m workflow_scripts.report.fairness_plane --table {input.csv}"
        " --out {output.figure} > {log} 2>&1"


ruleorder: fairness_course > figure  # hundreds of rows are no dot plot


rule fairness_course:
    input:
        csv="<results>/tables/debiased_noise_course.csv",
    output:
        figure=report(
            "<results>/tables/debiased_noise_course.{suffix}",
            caption="../workflow_scripts/report/captions/fairness_course.rst",
            category="Figures",
            labels={"table": "debiased_noise_course", "content": "{suffix}"},
        ),
    log:
        "<logs>/figure/debiased_noise_course.{suffix}.log",
    benchmark:
        "<benchmarks>/figure/debiased_noise_course.{suffix}.tsv"
    wildcard_constraints:
        suffix="png|svg",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(10),
    params:
        code=code_digest("workflow_scripts.report.fairness_course"),
    shell:
        "python -m workflow_scripts.report.fairness_course --table {input.csv}"
        " --out {output.figure} > {log} 2>&1"


rule debiased_noise:
    input:
        expand(
            "<results>/tables/{table}.{suffix}",
            table=dne.tables(),
            suffix=["csv", "md", "tex", "png"],
        ),
        dne.figures(),
    localrule: True
