# A small training that proves a machine: laptop, torchrun, or several nodes of a cluster.


rule training_smoke:
    output:
        metrics="<results>/training/smoke.json",
    log:
        "<logs>/training/smoke.log",
    benchmark:
        "<benchmarks>/training/smoke.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 2
    resources:
        # the profile makes it multi-node: mpi=srun, nodes and tasks
        mpi="",
        nodes=1,
        tasks=1,
        processes=1,
        node_gpus=0,
        mem_mb=grows(4000),
        runtime=grows(15),
    params:
        steps=config["training_smoke"]["steps"],
        check_every=config["training_smoke"]["check_every"],
        seed=config["seed"],
        state=f"{config['pathvars']['state']}/training/smoke",
        code=code_digest("workflow_scripts.training.smoke"),
    shell:
        "python -m workflow_scripts.launch --mpi={resources.mpi:q} --nodes {resources.nodes}"
        " --processes {resources.processes} --gpus {resources.node_gpus} --threads {threads}"
        " --minutes {resources.runtime} -m workflow_scripts.training.smoke"
        " --seed {params.seed} --steps {params.steps} --check-every {params.check_every}"
        " --state {params.state:q} --on-mismatch fresh --out {output.metrics} > {log} 2>&1"
