# From a published weight file (or a phantom of it) to a proven backbone.


rule phantom_checkpoint:
    output:
        source="<results>/sources/{file}",
    log:
        "<logs>/phantom_checkpoint/{file}.log",
    benchmark:
        "<benchmarks>/phantom_checkpoint/{file}.tsv"
    wildcard_constraints:
        file="|".join(re.escape(file) for file in checkpoint_of_file),
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        options=lambda w: as_json(config["checkpoints"][checkpoint_of_file[w.file]]),
        code=lambda w: format_code("phantom", checkpoint_of_file[w.file]),
    shell:
        "{PYTHON} -m workflow_scripts.checkpoints.phantom --options {params.options:q}"
        " --out {output.source} > {log} 2>&1"


rule convert:
    input:
        source=source_file,
    output:
        backbone="<results>/checkpoints/{checkpoint}/backbone.safetensors",
        certificate="<results>/checkpoints/{checkpoint}/certificate.json",
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
        options=lambda w: as_json(config["checkpoints"][w.checkpoint]),
        source=source_argument,
        code=lambda w: format_code("convert", w.checkpoint),
    shell:
        "{PYTHON} -m workflow_scripts.checkpoints.convert --checkpoint {wildcards.checkpoint}"
        " --options {params.options:q} {params.source} --backbone {output.backbone}"
        " --certificate {output.certificate} > {log} 2>&1"
