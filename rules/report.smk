# From predictions to tables, figures, ledger and report: no torch, no images.


rule table:
    input:
        predictions=lambda w: plan.tables()[w.table](),
    output:
        csv=report(
            "<results>/tables/{table}.csv",
            caption="../workflow_scripts/report/captions/table.rst",
            category="Tables",
            labels={"table": "{table}", "content": "all values, long form"},
        ),
        markdown="<results>/tables/{table}.md",
        latex="<results>/tables/{table}.tex",
        sources="<results>/tables/{table}.sources.csv",
    log:
        "<logs>/table/{table}.log",
    benchmark:
        "<benchmarks>/table/{table}.tsv"
    wildcard_constraints:
        table="|".join(plan.tables()),  # the others have rules of their own
    conda:
        "../envs/statistics.yaml"
    threads: 2
    resources:
        mem_mb=grows(8000),
        runtime=grows(60),
    params:
        resamples=config["ssl_transfer"]["bootstrap_resamples"],
        seed=config["seed"],
        code=code_digest("workflow_scripts.report.table", *KIND_MODULES),
    shell:
        "python -m workflow_scripts.report.table --table {wildcards.table}"
        " --predictions {input.predictions} --seed {params.seed}"
        " --resamples {params.resamples} --jobs {threads} --csv {output.csv}"
        " --markdown {output.markdown} --latex {output.latex} --sources {output.sources}"
        " > {log} 2>&1"


rule figure:
    input:
        csv="<results>/tables/{table}.csv",
    output:
        figure=report(
            "<results>/tables/{table}.{suffix}",
            caption="../workflow_scripts/report/captions/figure.rst",
            category="Figures",
            labels={"table": "{table}", "content": "{suffix}"},
        ),
    log:
        "<logs>/figure/{table}.{suffix}.log",
    benchmark:
        "<benchmarks>/figure/{table}.{suffix}.tsv"
    wildcard_constraints:
        suffix="png|svg",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.report.figures"),
    shell:
        "python -m workflow_scripts.report.figures --table {input.csv} --kind dots"
        " --out {output.figure} > {log} 2>&1"


rule trust_matrix:
    input:
        tables=expand("<results>/tables/{table}.csv", table=plan.trust_tables()),
        predictions=plan.trust_predictions(),
    output:
        csv=report(
            "<results>/tables/trust_matrix.csv",
            caption="../workflow_scripts/report/captions/trust_matrix.rst",
            category="Trust matrix",
            labels={"table": "trust_matrix", "content": "all values, long form"},
        ),
        markdown="<results>/tables/trust_matrix.md",
        latex="<results>/tables/trust_matrix.tex",
        sources="<results>/tables/trust_matrix.sources.csv",
    log:
        "<logs>/trust_matrix.log",
    benchmark:
        "<benchmarks>/trust_matrix.tsv"
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(120),
    params:
        resamples=config["ssl_transfer"]["bootstrap_resamples"],
        seed=config["seed"],
        code=code_digest("workflow_scripts.report.trust_matrix"),
    shell:
        "python -m workflow_scripts.report.trust_matrix --tables {input.tables}"
        " --predictions {input.predictions} --seed {params.seed}"
        " --resamples {params.resamples} --csv {output.csv}"
        " --markdown {output.markdown} --latex {output.latex} --sources {output.sources}"
        " > {log} 2>&1"


rule trust_figure:
    input:
        csv="<results>/tables/trust_matrix.csv",
    output:
        figure=report(
            "<results>/tables/trust_matrix.{suffix}",
            caption="../workflow_scripts/report/captions/trust_matrix.rst",
            category="Trust matrix",
            labels={"table": "trust_matrix", "content": "{suffix}"},
        ),
    log:
        "<logs>/trust_figure.{suffix}.log",
    benchmark:
        "<benchmarks>/trust_figure.{suffix}.tsv"
    wildcard_constraints:
        suffix="png|svg",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.report.trust_figure"),
    shell:
        "python -m workflow_scripts.report.trust_figure --table {input.csv}"
        " --out {output.figure} > {log} 2>&1"


rule ledger:
    input:
        published=PUBLISHED,
        test_cases=TEST_CASES,
        tables=expand("<results>/tables/{table}.csv", table=plan.chosen_tables()),
    output:
        csv=report(
            "<results>/tables/ledger.csv",
            caption="../workflow_scripts/report/captions/ledger.rst",
            category="Ledger",
            labels={"table": "ledger", "content": "published values beside ours"},
        ),
        markdown="<results>/tables/ledger.md",
    log:
        "<logs>/ledger.log",
    benchmark:
        "<benchmarks>/ledger.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("workflow_scripts.report.ledger"),
    shell:
        "python -m workflow_scripts.report.ledger --published {input.published}"
        " --tables {input.tables} --test-cases {input.test_cases}"
        " --csv {output.csv} --markdown {output.markdown}"
        " > {log} 2>&1"


rule provenance:  # made again with the ledger; tables never depend on it
    input:
        ledger="<results>/tables/ledger.csv",
    output:
        provenance="<results>/provenance.json",
    log:
        "<logs>/provenance.log",
    benchmark:
        "<benchmarks>/provenance.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        configuration=lambda w: [shlex.quote(str(file)) for file in CONFIG_FILES],
        code=code_digest("workflow_scripts.report.provenance"),
    shell:
        "python -m workflow_scripts.report.provenance --configuration {params.configuration}"
        " --lock envs/requirements.lock --out {output.provenance} > {log} 2>&1"


rule summary:
    input:
        tables=expand(
            "<results>/tables/{table}.csv",
            table=[*plan.chosen_tables(), *plan.matrices()],
        ),
        figures=expand(
            "<results>/tables/{table}.svg",
            table=[*plan.chosen_tables(), *plan.matrices()],
        ),
        sources=expand(
            "<results>/tables/{table}.sources.csv",
            table=[
                *(name for name in plan.chosen_tables() if name in plan.tables()),
                *plan.matrices(),
            ],
        ),
        ledger="<results>/tables/ledger.csv",
        cards=expand(
            "<results>/datasets/{dataset}/card.json", dataset=plan.used_datasets()
        ),
        sheets=plan.sheets(),
        certificates=expand(
            "<results>/checkpoints/{checkpoint}/certificate.json",
            checkpoint=plan.used_checkpoints(),
        ),
        pictures=pictures,
        provenance="<results>/provenance.json",
        rule_graph="docs/dag.svg",
    output:
        page=report(
            "<results>/summary.html",
            caption="../workflow_scripts/report/captions/overview.rst",
            category="Overview",
            labels={"table": "overview", "content": "start here"},
        ),
        text="<results>/summary.txt",
    log:
        "<logs>/summary.log",
    benchmark:
        "<benchmarks>/summary.tsv"
    localrule: True
    conda:
        "../envs/statistics.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        makers=makers,
        benchmarks=config["pathvars"]["benchmarks"],
        logs=config["pathvars"]["logs"],
        systems=list(plan.systems),
        code=code_digest("workflow_scripts.report.summary"),
    shell:
        "python -m workflow_scripts.report.summary --tables {input.tables}"
        " --figures {input.figures} --sources {input.sources} --ledger {input.ledger}"
        " --cards {input.cards} --sheets {input.sheets} --certificates {input.certificates}"
        " --pictures {input.pictures} --makers {params.makers:q}"
        " --provenance {input.provenance} --rule-graph {input.rule_graph}"
        " --benchmarks {params.benchmarks:q} --logs {params.logs:q} --systems {params.systems}"
        " --page {output.page} --text {output.text} > {log} 2>&1"


rule report:
    input:
        lambda _: rules.all.input,
    output:
        page="<results>/report.html",
    log:
        "<logs>/report.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    params:
        configuration=OVERLAYS,
    shell:
        "snakemake all --report {output.page} --nolock --cores 1 --workflow-profile none"
        " {params.configuration} > {log} 2>&1"


rule check:  # no output: what is there is looked at anew each time
    log:
        "<logs>/check.csv",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    params:
        config=as_json(config),
    shell:
        "python -m workflow_scripts.report.check --config {params.config:q} --out {log}"
