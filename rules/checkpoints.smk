# From a published weight file (or a phantom of it) to a proven backbone.


rule stage:
    # everything that needs the network or a person's agreement, before going where there is none
    input:
        plan.receipts(),
    log:
        "<logs>/stage.csv",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    params:
        config=as_json(config),
    shell:
        "python -m workflow_scripts.report.check --config {params.config:q} --out {log}"


rule download:
    # The weight file is no output: Snakemake would delete it before running the job again,
    # and with it what was already there, placed by hand or half downloaded.
    output:
        receipt="<results>/downloads/{file}.json",
    log:
        "<logs>/download/{file}.log",
    benchmark:
        "<benchmarks>/download/{file}.tsv"
    wildcard_constraints:
        file="|".join(map(re.escape, plan.source_names())) or "none",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        options=lambda w: as_json(plan.checkpoints[plan.checkpoint_in(w.file)]),
        out=lambda w: plan.downloaded(w.file),
        checksums="results/published/checksums.csv",
        code=code_digest("workflow_scripts.checkpoints.download"),
    shell:
        "python -m workflow_scripts.checkpoints.download --options {params.options:q}"
        " --out {params.out:q} --checksums {params.checksums} --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule phantom_checkpoint:
    output:
        source="<results>/sources/{file}",
    log:
        "<logs>/phantom_checkpoint/{file}.log",
    benchmark:
        "<benchmarks>/phantom_checkpoint/{file}.tsv"
    wildcard_constraints:
        file="|".join(map(re.escape, plan.source_names())) or "none",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(10),
    params:
        options=lambda w: as_json(plan.checkpoints[plan.checkpoint_in(w.file)]),
        code=lambda w: plan.format_code("phantom", plan.checkpoint_in(w.file)),
    shell:
        "python -m workflow_scripts.checkpoints.phantom --options {params.options:q}"
        " --out {output.source} > {log} 2>&1"


rule convert:
    input:
        source=lambda w: plan.source_files(w.checkpoint),
    output:
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate=report(
            "<results>/checkpoints/{checkpoint}/certificate.json",
            caption="../workflow_scripts/report/captions/certificate.rst",
            category="Checkpoints",
            labels={"checkpoint": "{checkpoint}", "content": "certificate"},
        ),
    log:
        "<logs>/convert/{checkpoint}.log",
    benchmark:
        "<benchmarks>/convert/{checkpoint}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(20),
    params:
        options=lambda w: as_json(plan.checkpoints[w.checkpoint]),
        source=lambda w: plan.source_argument(w.checkpoint),
        code=lambda w: plan.format_code("convert", w.checkpoint),
    shell:
        "python -m workflow_scripts.checkpoints.convert --checkpoint {wildcards.checkpoint}"
        " --options {params.options:q} {params.source} --backbone {output.backbone}"
        " --certificate {output.certificate} > {log} 2>&1"
