# From a published archive (or a phantom of it) to manifest, leak certificate and image store.


rule phantom:
    output:
        marker="<results>/data/{root}/PHANTOM.json",
    log:
        "<logs>/phantom/{root}.log",
    benchmark:
        "<benchmarks>/phantom/{root}.tsv"
    wildcard_constraints:
        root="|".join(map(re.escape, plan.phantoms)) or "none",
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        dataset=lambda w: plan.dataset_in(w.root),
        options=lambda w: as_json(plan.datasets[plan.dataset_in(w.root)]),
        phantom=lambda w: as_json(plan.phantoms[w.root]),
        seed=config["seed"],
        code=lambda w: plan.layout_code("phantom", plan.dataset_in(w.root)),
    shell:
        "{PYTHON} -m workflow_scripts.datasets.phantom --dataset {params.dataset}"
        " --options {params.options:q} --phantom {params.phantom:q} --seed {params.seed}"
        " --jobs {threads} --out {output.marker} > {log} 2>&1"


rule manifest:
    input:
        archive=lambda w: plan.archive_files(w.dataset),
    output:
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card=report(
            "<results>/datasets/{dataset}/card.json",
            caption="../workflow_scripts/report/captions/data_card.rst",
            category="Data",
            labels={"data set": "{dataset}", "content": "card"},
        ),
        quarantine="<results>/datasets/{dataset}/quarantine.csv",
    log:
        "<logs>/manifest/{dataset}.log",
    benchmark:
        "<benchmarks>/manifest/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        options=lambda w: as_json(plan.datasets[w.dataset]),
        root=lambda w: plan.data_folder(w.dataset),
        seed=config["seed"],
        code=lambda w: plan.layout_code("manifest", w.dataset),
    shell:
        "{PYTHON} -m workflow_scripts.datasets.manifest --dataset {wildcards.dataset}"
        " --options {params.options:q} --root {params.root:q} --seed {params.seed}"
        " --jobs {threads} --manifest {output.manifest} --card {output.card}"
        " --quarantine {output.quarantine} > {log} 2>&1"


rule leak_free:
    input:
        manifest="<results>/datasets/{dataset}/manifest.parquet",
    output:
        certificate="<results>/datasets/{dataset}/leak_free.json",
    log:
        "<logs>/leak_free/{dataset}.log",
    benchmark:
        "<benchmarks>/leak_free/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.datasets.leaks"),
    shell:
        "{PYTHON} -m workflow_scripts.datasets.leaks --manifests {input.manifest}"
        " --out {output.certificate} > {log} 2>&1"


rule store:
    input:
        manifest="<results>/datasets/{dataset}/manifest.parquet",
    output:
        store="<results>/datasets/{dataset}/store/{geometry}.npy",
        index="<results>/datasets/{dataset}/store/{geometry}.parquet",
        quarantine="<results>/datasets/{dataset}/store/{geometry}.quarantine.csv",
    log:
        "<logs>/store/{dataset}/{geometry}.log",
    benchmark:
        "<benchmarks>/store/{dataset}/{geometry}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        root=lambda w: plan.data_folder(w.dataset),
        slices=lambda w: f"{plan.results}/datasets/{w.dataset}/slices",
        code=code_digest("workflow_scripts.datasets.store"),
    shell:
        "{PYTHON} -m workflow_scripts.datasets.store --manifest {input.manifest}"
        " --root {params.root:q} --geometry {wildcards.geometry} --jobs {threads}"
        " --slices {params.slices:q}"
        " --store {output.store} --index {output.index} --quarantine {output.quarantine}"
        " > {log} 2>&1"


rule contact_sheet:
    input:
        manifest="<results>/datasets/{dataset}/manifest.parquet",
    output:
        sheet=report(
            "<results>/datasets/{dataset}/contact_sheet.png",
            caption="../workflow_scripts/report/captions/contact_sheet.rst",
            category="Data",
            labels={"data set": "{dataset}", "content": "contact sheet"},
        ),
    log:
        "<logs>/contact_sheet/{dataset}.log",
    benchmark:
        "<benchmarks>/contact_sheet/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        root=lambda w: plan.data_folder(w.dataset),
        code=code_digest("workflow_scripts.phantoms.contact_sheet"),
    shell:
        "{PYTHON} -m workflow_scripts.phantoms.contact_sheet --manifest {input.manifest}"
        " --root {params.root:q} --out {output.sheet} > {log} 2>&1"
