"""Which files the analyses of SSL transfer need: invariance, perceptual distance, kNN, CKA, OOD.

Each has a section of its own below `ssl_transfer`; one that is not configured has no table.
Light on purpose: imported each time Snakemake plans.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from workflow_scripts.ssl_transfer.columns import EVAL, Column, columns_of, table_column
from workflow_scripts.ssl_transfer.protocols import LINEAR, Protocol
from workflow_scripts.ssl_transfer.training_plan import RECONSTRUCTION_RUN
from workflow_scripts.ssl_transfer.transform_names import MULTI_VIEW, default_k
from workflow_scripts.system_plan import Config, Named

VIEWS = "{dataset}/{transform}-{k}/{protocol}"
WHITENING = "{checkpoint}/{dataset}/{geometry}"
INVARIANCE_RUN = "{checkpoint}/{dataset}/{transform}-{k}"
MULTI_VIEW_RUN = "{protocol}/{checkpoint}/{dataset}"
KNN_RUN = "{checkpoint}/{dataset}"
CKA_RUN = "{dataset}/{first}--{second}"
ID_OOD_RUN = "{finding}/{train}/{checkpoint}/seed{seed}"
NO_FINDING = "label"  # stands in a path where the data sets have a single label
TRUNKS = ("alexnet", "vgg", "squeezenet")  # of LPIPS, in the order of the released files
TRANSFER = ("few_shot", "linear", "finetune")  # steps whose accuracy is to be foretold
MEASURES = {"saliency": "attentive_diffusion", "perceptual": "lpips", "invariance": "invariance"}
DOMAINS = ("in_domain", "out_of_domain")


def path_word(finding: str) -> str:
    """Return a finding as it stands in paths: a space would part them in a shell's command.

    >>> path_word("Lung Opacity")
    'Lung_Opacity'
    """
    return finding.replace(" ", "_")


class AnalysisPlan:
    """The runs behind the tables of the analyses."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.section: Config = config["ssl_transfer"]
        self.top = f"{config['pathvars']['results']}/ssl_transfer"
        self.checkpoints: list[str] = self.section["checkpoints"]

    def columns(self, step: str, protocol: str | None = None) -> list[Column]:
        """Return the columns of a step's table, or of one protocol; none if not configured.

        The perceptual distance is that of every reconstruction.
        """
        if step == "perceptual" and step in self.section:
            step = "reconstruction"
        section = self.section.get(step, {"columns": []})
        return list(section["columns"] if protocol is None else columns_of(section, protocol))

    def protocols(self, step: str) -> list[Protocol]:
        """Return the protocols of a step; none where it is not configured."""
        if step == "perceptual" and step in self.section:
            step = "reconstruction"
        return list(self.section.get(step, {}).get("protocols", []))

    def names(self) -> Iterator[Named]:
        """Yield every data set, checkpoint and experiment that the sections name."""
        for step in ("invariance", "knn", "cka", "id_ood"):
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
            for column in columns_of(step, protocol)
        ]

    def invariance_run(self, protocol: Protocol, checkpoint: str, column: Column) -> str:
        """Return the predictions of one cell."""
        dataset, transform = column["dataset"], column["transform"]
        batch_norm = column.get("batch_norm", EVAL)
        if transform == MULTI_VIEW:
            run = MULTI_VIEW_RUN.format(protocol=protocol, checkpoint=checkpoint, dataset=dataset)
            step = "multi_view" if batch_norm == EVAL else "multi_view_batch"
            return f"{self.top}/{step}/{run}/predictions.parquet"
        k = column.get("k", default_k(transform))
        run = INVARIANCE_RUN.format(
            checkpoint=checkpoint, dataset=dataset, transform=transform, k=k
        )
        return f"{self.top}/invariance/{protocol}-{batch_norm}/{run}/predictions.parquet"

    def invariance_column(self, wildcards: Any) -> str:  # noqa: ANN401, Snakemake's own type
        """Return what the table calls a cell of a synthetic transform."""
        ending = "" if wildcards.batch_norm == EVAL else f"_{wildcards.batch_norm}"
        return f"{wildcards.dataset} {wildcards.transform}{ending}"

    # Perceptual distance

    def trunk(self, name: str) -> str:
        """Return the checkpoint that is a trunk of LPIPS."""
        return str(self.section["perceptual"]["trunks"][name])

    def reconstructed(self) -> list[str]:
        """Return the checkpoints whose reconstructions are compared."""
        step = self.section.get("reconstruction", {})
        return list(step.get("checkpoints", self.checkpoints))

    def perceptual_runs(self) -> list[str]:
        """Return the predictions behind the table of perceptual distances."""
        return [
            path
            for protocol in self.protocols("perceptual")
            for column in self.columns("perceptual")
            for path in self.perceptual_outputs(protocol, column["dataset"])
        ]

    def perceptual_outputs(self, protocol: str, dataset: str) -> list[str]:
        """Return the predictions of one data set, one file a checkpoint."""
        return [
            f"{self.top}/perceptual/{RECONSTRUCTION_RUN}/predictions.parquet".format(
                protocol=protocol, checkpoint=name, dataset=dataset
            )
            for name in self.reconstructed()
        ]

    def reconstructions(self, protocol: str, dataset: str, file: str) -> list[str]:
        """Return one file of each checkpoint's reconstruction of a data set's image."""
        return [
            f"{self.top}/reconstruction/{RECONSTRUCTION_RUN}/{file}".format(
                protocol=protocol, checkpoint=name, dataset=dataset
            )
            for name in self.reconstructed()
        ]

    def trunk_files(self, file: str) -> list[str]:
        """Return one file of each trunk of LPIPS, in the order of `TRUNKS`."""
        if not self.columns("perceptual"):
            return []
        folder = f"{self.config['pathvars']['results']}/checkpoints"
        return [f"{folder}/{self.trunk(name)}/{file}" for name in TRUNKS]

    def distance_files(self) -> list[str]:
        """Return the distances as the released code stores them, one file a trunk and the mean."""
        return [
            f"{self.top}/perceptual/{protocol}/{name}_distances.csv"
            for protocol in self.protocols("perceptual")
            for name in (*TRUNKS, "average")
        ]

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
        """Return the words that name the finding of a path, or none."""
        if finding == NO_FINDING:
            return ""
        names = [column["finding"] for column in self.columns("id_ood") if "finding" in column]
        name = next((name for name in names if path_word(name) == finding), finding)
        return f"--finding {shlex.quote(name)}"

    def id_ood_runs(self) -> list[str]:
        """Return the predictions behind the ID and OOD table."""
        return [
            path.format(
                checkpoint=checkpoint,
                seed=seed,
                train=column["train"],
                finding=path_word(column.get("finding", NO_FINDING)),
            )
            for checkpoint in self.checkpoints
            for column in self.columns("id_ood")
            for path in self.id_ood_patterns(column["experiment"])
            for seed in self.section["id_ood"]["seeds"]
        ]

    # Analysis of the tables

    def transfer_tables(self) -> list[str]:
        """Return the steps with a transfer table."""
        return [step for step in TRANSFER if self.columns(step)]

    def analysed_tables(self) -> list[str]:
        """Return the tables that correlations and averages are made from."""
        steps = [*self.transfer_tables(), *(step for step in MEASURES if self.columns(step))]
        return [f"ssl_transfer_{step}" for step in steps]

    def other_tables(self) -> list[str]:
        """Return the tables that are made from these."""
        if "analysis" not in self.section:
            return []
        domains = self.analysis_section()
        has_averages = any(domains[domain] for domain in DOMAINS)
        averages = ["ssl_transfer_domain_averages"] if has_averages else []
        correlations = ["ssl_transfer_correlations"] if self.predictors() else []
        return [*correlations, *averages]

    def analysis_section(self) -> dict[str, Any]:
        """Return the section `analysis`; a domain with a column that is not configured is empty."""
        section = dict(self.section["analysis"])
        known = {(step, column_name(column)) for step in TRANSFER for column in self.columns(step)}
        for domain in DOMAINS:
            if not known.issuperset(map(tuple, section[domain])):
                section[domain] = []
        return section

    def predictors(self) -> list[str]:
        """Return the predictors that share protocol, data set and checkpoint with a transfer."""
        if "analysis" not in self.section:
            return []
        shown: dict[tuple[str, str], set[str]] = {}  # checkpoints by protocol and data set
        for step in self.transfer_tables():
            for protocol in self.protocols(step):
                for column in self.columns(step, protocol):
                    key = (protocol, column_name(column).split(" ")[0])
                    shown.setdefault(key, set()).update(self._rows(step))
        known = set(self.section["analysis"]["imagenet_top1"])
        found = {"imagenet_top1": True} if any(known & names for names in shown.values()) else {}
        for step in MEASURES:
            for protocol in self.protocols(step):
                for column in self.columns(step, protocol):
                    for name, predictor in self._predictors(step, column):
                        if shown.get((protocol, name), set()).intersection(self._rows(step)):
                            found[predictor] = True
        return list(found)

    def _rows(self, step: str) -> list[str]:
        """Return the checkpoints of a step's table."""
        if step == "perceptual":
            return self.reconstructed()
        return list(self.section[step].get("checkpoints", self.checkpoints))

    def _predictors(self, step: str, column: Column) -> Iterator[tuple[str, str]]:
        """Yield what `report.transfer_points` calls a column's data set and predictor."""
        dataset, metric = str(column["dataset"]), MEASURES[step]
        if step == "saliency":  # a column of the table for each mode of batch normalisation
            heading = str(column.get("column", dataset))
            for bn in self.section[step]["bn"]:
                name, _, rest = (heading if bn == EVAL else f"{heading} bn-{bn}").partition(" ")
                yield name, f"{step}_{rest}" if rest else metric
        elif "transform" in column:
            yield dataset, f"{step}_{table_column(column).partition(' ')[2]}"
        else:
            yield dataset, metric


def column_name(column: Column) -> str:
    """Return what a transfer table calls a column.

    >>> column_name({"dataset": "bach", "n_way": 2}), column_name({"dataset": "bach"})
    ('bach 2-way', 'bach')
    """
    name = str(column.get("column", column["dataset"]))
    return f"{name} {column['n_way']}-way" if "n_way" in column else name
