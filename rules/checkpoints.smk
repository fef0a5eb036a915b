# From a published weight file (or a phantom of it) to a proven backbone.


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
        mem_mb=4000,
        runtime=10,
    params:
        options=lambda w: as_json(plan.checkpoints[plan.checkpoint_in(w.file)]),
        code=lambda w: plan.format_code("phantom", plan.checkpoint_in(w.file)),
    shell:
        "{PYTHON} -m workflow_scripts.checkpoints.phantom --options {params.options:q}"
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
        mem_mb=8000,
        runtime=20,
    params:
        options=lambda w: as_json(plan.checkpoints[w.checkpoint]),
        source=lambda w: plan.source_argument(w.checkpoint),
        code=lambda w: plan.format_code("convert", w.checkpoint),
    shell:
        "{PYTHON} -m workflow_scripts.checkpoints.convert --checkpoint {wildcards.checkpoint}"
        " --options {params.options:q} {params.source} --backbone {output.backbone}"
        " --certificate {output.certificate} > {log} 2>&1"
