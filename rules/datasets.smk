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
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        dataset=lambda w: plan.dataset_in(w.root),
        options=lambda w: as_json(plan.datasets[plan.dataset_in(w.root)]),
        phantom=lambda w: as_json(plan.phantoms[w.root]),
        seed=config["seed"],
        code=lambda w: plan.layout_code("phantom", plan.dataset_in(w.root)),
    shell:
        "python -m workflow_scripts.datasets.phantom --dataset {params.dataset}"
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
        mem_mb=grows(8000),
        runtime=grows(120),
    params:
        options=lambda w: as_json(plan.datasets[w.dataset]),
        root=lambda w: plan.data_folder(w.dataset),
        cache=lambda w: plan.file_cache(w.dataset),
        seed=config["seed"],
        code=lambda w: plan.layout_code("manifest", w.dataset),
    shell:
        "python -m workflow_scripts.datasets.manifest --dataset {wildcards.dataset}"
        " --options {params.options:q} --root {params.root:q} --seed {params.seed}"
        " --jobs {threads} --cache {params.cache:q} --manifest {output.manifest}"
        " --card {output.card} --quarantine {output.quarantine} > {log} 2>&1"


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
        "python -m workflow_scripts.datasets.leaks --manifests {input.manifest}"
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
        mem_mb=grows(8000),
        runtime=grows(240),
    params:
        root=lambda w: plan.data_folder(w.dataset),
        bit_depth=lambda w: plan.bit_depth_argument(w.dataset),
        slices=lambda w: f"{plan.results}/datasets/{w.dataset}/slices",
        code=code_digest("workflow_scripts.datasets.store"),
    shell:
        "python -m workflow_scripts.datasets.store --manifest {input.manifest}"
        " --root {params.root:q} --geometry {wildcards.geometry} {params.bit_depth}"
        " --slices {params.slices:q} --jobs {threads}"
        " --store {output.store} --index {output.index} --quarantine {output.quarantine}"
        " > {log} 2>&1"


rule contact_sheet:
    input:
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
    output:
        sheet=report(
            "<results>/datasets/{dataset}/contact_sheet.jpg",
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
        "python -m workflow_scripts.phantoms.contact_sheet --manifest {input.manifest}"
        " --card {input.card} --root {params.root:q} --out {output.sheet} > {log} 2>&1"


rule corrupt:
    input:
        manifest=lambda w: f"<results>/datasets/{plan.source_of(w.root)}/manifest.parquet",
        card=lambda w: f"<results>/datasets/{plan.source_of(w.root)}/card.json",
    output:
        marker="<results>/data/{root}/CORRUPTED.json",
    log:
        "<logs>/corrupt/{root}.log",
    benchmark:
        "<benchmarks>/corrupt/{root}.tsv"
    wildcard_constraints:
        root="|".join(map(re.escape, plan.corrupted())) or "none",
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        root=lambda w: plan.data_folder(plan.source_of(w.root)),
        options=lambda w: as_json(
            plan.datasets[plan.dataset_in(w.root)].get("corruption", {})
        ),
        seed=config["seed"],
        code=lambda w: plan.layout_code("corrupt", plan.source_of(w.root)),
    shell:
        "python -m workflow_scripts.datasets.corrupt --manifest {input.manifest}"
        " --card {input.card} --root {params.root:q} --options {params.options:q}"
        " --seed {params.seed} --jobs {threads} --out {output.marker} > {log} 2>&1"


rule volume_store:
    input:
        manifest="<results>/datasets/{dataset}/manifest.parquet",
        card="<results>/datasets/{dataset}/card.json",
    output:
        images="<results>/datasets/{dataset}/volumes/{geometry}.images.npy",
        masks="<results>/datasets/{dataset}/volumes/{geometry}.masks.npy",
        index="<results>/datasets/{dataset}/volumes/{geometry}.parquet",
        quarantine="<results>/datasets/{dataset}/volumes/{geometry}.quarantine.csv",
    log:
        "<logs>/volume_store/{dataset}/{geometry}.log",
    benchmark:
        "<benchmarks>/volume_store/{dataset}/{geometry}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        root=lambda w: plan.data_folder(w.dataset),
        code=lambda w: plan.layout_code("volume_store", w.dataset),
    shell:
        "python -m workflow_scripts.datasets.volume_store --manifest {input.manifest}"
        " --card {input.card} --root {params.root:q} --grid {wildcards.geometry}"
        " --jobs {threads} --images {output.images} --masks {output.masks}"
        " --index {output.index} --quarantine {output.quarantine} > {log} 2>&1"


rule volume_sheet:
    input:
        images="<results>/datasets/{dataset}/volumes/{geometry}.images.npy",
        masks="<results>/datasets/{dataset}/volumes/{geometry}.masks.npy",
        index="<results>/datasets/{dataset}/volumes/{geometry}.parquet",
    output:
        sheet=report(
            "<results>/datasets/{dataset}/volumes/{geometry}.jpg",
            caption="../workflow_scripts/report/captions/contact_sheet.rst",
            category="Data",
            labels={"data set": "{dataset}", "content": "contact sheet"},
        ),
    log:
        "<logs>/volume_sheet/{dataset}/{geometry}.log",
    benchmark:
        "<benchmarks>/volume_sheet/{dataset}/{geometry}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.datasets.volume_sheet"),
    shell:
        "python -m workflow_scripts.datasets.volume_sheet --images {input.images}"
        " --masks {input.masks} --index {input.index} --out {output.sheet} > {log} 2>&1"


rule segmentation_data:
    input:
        [
            f"<results>/datasets/{dataset}/{file}"
            for dataset, grid in plan.volume_stores().items()
            for file in ("leak_free.json", f"volumes/{grid}.jpg")
        ],
    localrule: True


rule experiment_leak_free:
    input:
        manifests=lambda w: plan.of_experiment(w.experiment, "manifest.parquet"),
    output:
        certificate="<results>/experiments/{experiment}/leak_free.json",
    log:
        "<logs>/experiments/{experiment}/leak_free.log",
    benchmark:
        "<benchmarks>/experiments/{experiment}/leak_free.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=8000,
        runtime=20,
    params:
        code=code_digest("workflow_scripts.datasets.leaks"),
    shell:
        "python -m workflow_scripts.datasets.leaks --manifests {input.manifests}"
        " --out {output.certificate} > {log} 2>&1"


rule near_duplicates:
    input:
        manifests=lambda w: plan.of_experiment(w.experiment, "manifest.parquet"),
        stores=lambda w: plan.of_experiment(w.experiment, f"store/{w.geometry}.npy"),
        indexes=lambda w: plan.of_experiment(
            w.experiment, f"store/{w.geometry}.parquet"
        ),
    output:
        warnings="<results>/experiments/{experiment}/near_duplicates_{geometry}.csv",
    log:
        "<logs>/experiments/{experiment}/near_duplicates_{geometry}.log",
    benchmark:
        "<benchmarks>/experiments/{experiment}/near_duplicates_{geometry}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        code=code_digest("workflow_scripts.datasets.near_duplicates"),
    shell:
        "python -m workflow_scripts.datasets.near_duplicates --manifests {input.manifests}"
        " --stores {input.stores} --indexes {input.indexes} --out {output.warnings}"
        " > {log} 2>&1"


rule experiments:
    input:
        expand(
            rules.experiment_leak_free.output.certificate, experiment=plan.experiments
        ),
    localrule: True
