"""Which files the analyses of SSL transfer need: invariance, perceptual distance, kNN, CKA, OOD.

Each has a section of its own below `ssl_transfer`; one that is not configured has no table.
Light on purpose: imported each time Snakemake plans.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

from workflow_scripts.ssl_transfer.protocols import LINEAR, Protocol
from workflow_scripts.ssl_transfer.transform_names import MULTI_VIEW, default_k
from workflow_scripts.system_plan import Config, Named

VIEWS = "{dataset}/{transform}-{k}/{protocol}"
WHITENING = "{checkpoint}/{dataset}/{geometry}"
INVARIANCE_RUN = "{checkpoint}/{dataset}/{transform}-{k}"
MULTI_VIEW_RUN = "{protocol}/{checkpoint}/{dataset}"
PERCEPTUAL_RUN = "{protocol}/{checkpoint}/{dataset}"
KNN_RUN = "{checkpoint}/{dataset}"
CKA_RUN = "{dataset}/{first}--{second}"
ID_OOD_RUN = "{finding}/{train}/{checkpoint}/seed{seed}"
NO_FINDING = "label"  # stands in a path where the data sets have a single label
TRUNKS = ("alexnet", "vgg", "squeezenet")  # of LPIPS, in the order of the released files
EVAL = "eval"  # BatchNorm in evaluation mode
Column = Mapping[str, Any]


class AnalysisPlan:
    """The runs behind the tables of the analyses."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.section: Config = config["ssl_transfer"]
        self.top = f"{config['pathvars']['results']}/ssl_transfer"
        self.checkpoints: list[str] = self.section["checkpoints"]

    def columns(self, step: str) -> list[Column]:
        """Return the columns of a step's table; none where it is not configured."""
        return list(self.section.get(step, {}).get("columns", []))

    def names(self) -> Iterator[Named]:
        """Yield every data set, checkpoint and experiment that the sections name."""
        for step in ("invariance", "perceptual", "knn", "cka", "id_ood"):
            for index, column in enumerate(self.columns(step)):
                for key, kind in (("dataset", "datasets"), ("train", "datasets"),
                                  ("experiment", "experiments")):  # fmt: skip
                    if key in column:
                        yield Named((step, "columns", str(index), key), column[key], kind)
        for index, column in enumerate(self.columns("id_ood")):
            keys = ("id_ood", "columns", str(index), "experiment")
            for name in self.config.get("experiments", {}).get(column["experiment"], []):
                yield Named(keys, name, "datasets")
        for trunk in TRUNKS if self.columns("perceptual") else ():
            yield Named(("perceptual", "trunks", trunk), self.trunk(trunk), "checkpoints")

    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return the configured tables with the functions that list their predictions."""
        runs = {
            "perceptual": self.perceptual_runs,
            "invariance": self.invariance_runs,
            "knn": self.knn_runs,
            "cka": self.cka_runs,
            "id_ood": self.id_ood_runs,
        }
        return {f"ssl_transfer_{step}": run for step, run in runs.items() if self.columns(step)}

    # Invariance

    def invariance_runs(self) -> list[str]:
        """Return the predictions behind the invariance table."""
        step = self.section["invariance"]
        return [
            self.invariance_run(protocol, checkpoint, column)
            for protocol in step["protocols"]
            for checkpoint in self.checkpoints
            for column in step["columns"]
        ]

    def invariance_run(self, protocol: Protocol, checkpoint: str, column: Column) -> str:
        """Return the predictions of one cell."""
        dataset, transform = column["dataset"], column["transform"]
        if transform == MULTI_VIEW:
            run = MULTI_VIEW_RUN.format(protocol=protocol, checkpoint=checkpoint, dataset=dataset)
            return f"{self.top}/multi_view/{run}/predictions.parquet"
        k = column.get("k", default_k(transform))
        run = INVARIANCE_RUN.format(
            checkpoint=checkpoint, dataset=dataset, transform=transform, k=k
        )
        batch_norm = column.get("batch_norm", EVAL)
        return f"{self.top}/invariance/{protocol}-{batch_norm}/{run}/predictions.parquet"

    def invariance_column(self, wildcards: Any) -> str:  # noqa: ANN401, Snakemake's own type
        """Return what the table calls a cell of a synthetic transform."""
        ending = "" if wildcards.batch_norm == EVAL else ", batch statistics"
        return f"{wildcards.dataset} {wildcards.transform}{ending}"

    # Perceptual distance

    def trunk(self, name: str) -> str:
        """Return the checkpoint that is a trunk of LPIPS."""
        return str(self.section["perceptual"]["trunks"][name])

    def perceptual_runs(self) -> list[str]:
        """Return the predictions behind the table of perceptual distances."""
        step = self.section["perceptual"]
        return [
            self.perceptual_run(protocol, checkpoint, column["dataset"])
            for protocol in step["protocols"]
            for checkpoint in self.checkpoints
            for column in step["columns"]
        ]

    def perceptual_run(self, protocol: str, checkpoint: str, dataset: str) -> str:
        """Return the predictions of one cell."""
        run = PERCEPTUAL_RUN.format(protocol=protocol, checkpoint=checkpoint, dataset=dataset)
        return f"{self.top}/perceptual/{run}/predictions.parquet"

    # kNN and CKA, on the features of the linear probe

    def features(self, checkpoint: str, dataset: str) -> str:
        """Return the features that the sound linear probe reads."""
        options = LINEAR["corrected"]
        name = f"{checkpoint}/{dataset}/{options.geometry}-{options.normalisation}.npz"
        return f"{self.top}/features/{name}"

    def knn_runs(self) -> list[str]:
        """Return the predictions behind the table of nearest neighbours."""
        return [
            f"{self.top}/knn/{KNN_RUN}/predictions.parquet".format(
                checkpoint=checkpoint, dataset=column["dataset"]
            )
            for checkpoint in self.checkpoints
            for column in self.columns("knn")
        ]

    def cka_pairs(self, dataset: str) -> list[str]:
        """Return one file a pair of checkpoints, in the order of `itertools.combinations`."""
        return [
            f"{self.top}/cka/{CKA_RUN}.parquet".format(dataset=dataset, first=first, second=second)
            for first, second in combinations(self.checkpoints, 2)
        ]

    def cka_runs(self) -> list[str]:
        """Return the pairs behind the table of CKA."""
        return [
            path for column in self.columns("cka") for path in self.cka_pairs(column["dataset"])
        ]

    # ID and OOD

    def id_ood_experiments(self) -> list[str]:
        """Return the experiments whose data sets a probe is tested on."""
        return list(dict.fromkeys(column["experiment"] for column in self.columns("id_ood")))

    def tested(self, experiment: str) -> list[str]:
        """Return the data sets that a probe of an experiment is tested on, the training one too."""
        return list(self.config["experiments"][experiment])

    def id_ood_patterns(self, experiment: str) -> list[str]:
        """Return the predictions of a probe, one a tested data set, with wildcards left open."""
        folder = f"{self.top}/id_ood/{experiment}/{ID_OOD_RUN}"
        return [f"{folder}/{name}.parquet" for name in self.tested(experiment)]

    def finding_argument(self, finding: str) -> str:
        """Return the words that name a finding, or none."""
        return "" if finding == NO_FINDING else f"--finding {shlex.quote(finding)}"

    def id_ood_runs(self) -> list[str]:
        """Return the predictions behind the ID and OOD table."""
        return [
            path.format(
                checkpoint=checkpoint,
                seed=seed,
                train=column["train"],
                finding=column.get("finding", NO_FINDING),
            )
            for checkpoint in self.checkpoints
            for column in self.columns("id_ood")
            for path in self.id_ood_patterns(column["experiment"])
            for seed in self.section["id_ood"]["seeds"]
        ]
