"""Which files fine-tuning, saliency and reconstruction ask for; a part of the system's plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from workflow_scripts.ssl_transfer.columns import Column, columns_of
from workflow_scripts.ssl_transfer.finetune_grid import n_candidates
from workflow_scripts.system_plan import Config, Named

FINETUNE_RUN = "{protocol}/{checkpoint}/{dataset}/seed{seed}"
SALIENCY_RUN = "{protocol}/{checkpoint}/{dataset}/bn-{bn}"
RECONSTRUCTION_RUN = "{protocol}/{checkpoint}/{dataset}"
STAGES = ("finetune", "saliency", "reconstruction")


class TrainingPlan:
    """The runs of the three stages that train or forward an image many times.

    Attributes:
        section: `ssl_transfer` of the configuration.
        results: the folder of results.
    """

    def __init__(self, config: Config) -> None:
        self.section: Config = config["ssl_transfer"]
        self.results: str = config["pathvars"]["results"]

    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return each table's name with the function that lists its predictions."""
        return {
            "ssl_transfer_finetune": self.finetune_runs,
            "ssl_transfer_saliency": self.saliency_runs,
        }

    def names(self) -> Iterator[Named]:
        """Yield the checkpoints and data sets that the stages name."""
        for stage in STAGES:
            for index, name in enumerate(self.section[stage].get("checkpoints", ())):
                yield Named((stage, "checkpoints", str(index)), name, "checkpoints")
            for index, column in enumerate(self.section[stage]["columns"]):
                yield Named(
                    (stage, "columns", str(index), "dataset"), column["dataset"], "datasets"
                )

    def stage_checkpoints(self, stage: str) -> list[str]:
        """Return the checkpoints of a stage: its own list, or the system's."""
        names: list[str] = self.section[stage].get("checkpoints", self.section["checkpoints"])
        return names

    def column_of(self, stage: str, dataset: str) -> Column:
        """Return a data set's entry in a stage; an empty one for a run asked for by hand."""
        columns: list[Column] = self.section[stage]["columns"]
        return next((one for one in columns if one["dataset"] == dataset), {"dataset": dataset})

    def finetune_runs(self) -> list[str]:
        """Return the predictions behind the fine-tuning table."""
        seeds = self.section["finetune"]["seeds"]
        return [
            self._stage_file("finetune", FINETUNE_RUN.format(seed=seed, **run))
            for run in self._stage_runs("finetune")
            for seed in seeds
        ]

    def finetune_options(self, dataset: str) -> str:
        """Return the words for what the configuration says of fine-tuning on a data set."""
        step = self.section["finetune"]
        column = self.column_of("finetune", dataset)
        names = ("steps", "batch_size", "lr", "weight_decay", "check_every", "patience")
        chosen = {name: column.get(name, step[name]) for name in names}
        words = [f"--{name.replace('_', '-')} {value}" for name, value in chosen.items()]
        words += [f"--precision {step['precision']}"]
        words += [] if step["augment"] else ["--no-augment"]
        words += [f"--metric {column['metric']}"] if "metric" in column else []
        return " ".join(words)

    def finetune_pixels(self, dataset: str) -> dict[str, str]:
        """Return the decoded images that crops are cut from; none: decoded from the archive."""
        source = self.column_of("finetune", dataset).get("pixels", "decoded")
        if source == "archive" or not self.section["finetune"]["augment"]:
            return {}
        folder = f"{self.results}/datasets/{dataset}/decoded"
        return {"pixels": f"{folder}/images.bin", "pixel_index": f"{folder}/images.parquet"}

    def finetune_pixel_words(self, dataset: str) -> str:
        """Return the words that name the decoded images, or none."""
        files = self.finetune_pixels(dataset).items()
        return " ".join(f"--{name.replace('_', '-')} {path}" for name, path in files)

    def finetune_candidates(self, protocol: str, checkpoint: str, dataset: str, seed: str) -> Any:  # noqa: ANN401
        """Return the runs of the search over learning rate and weight decay; none without one."""
        run = FINETUNE_RUN.format(
            protocol=protocol, checkpoint=checkpoint, dataset=dataset, seed=seed
        )
        numbers = range(n_candidates(self.section["finetune"]["grid_size"]))
        folder = f"{self.results}/ssl_transfer/finetune_search"
        return [f"{folder}/{run}/{number}.json" for number in numbers]

    def saliency_runs(self) -> list[str]:
        """Return the attentive diffusion behind the saliency table."""
        return [
            self._stage_file("saliency", SALIENCY_RUN.format(bn=bn, **run))
            for bn in self.section["saliency"]["bn"]
            for run in self._stage_runs("saliency")
        ]

    def saliency_column(self, dataset: str, bn: str) -> str:
        """Return what the table calls a data set under a mode of batch normalisation."""
        name = self.column_of("saliency", dataset).get("column", dataset)
        return name if bn == "eval" else f"{name} bn-{bn}"

    def image_words(self, stage: str, dataset: str) -> str:
        """Return the words that name the images of a stage, or say how many are drawn."""
        named = self.column_of(stage, dataset).get("images", [])
        if named:
            return " ".join(f"--image '{name}'" for name in named)
        return f"--n-images {self.section[stage]['n_images']}"

    def figures(self) -> list[str]:
        """Return the figures of maps and of reconstructions, one a protocol and data set."""
        names = [
            f"ssl_transfer_saliency_{protocol}_{column['dataset']}_bn-{bn}"
            for protocol in self.section["saliency"]["protocols"]
            for column in self.section["saliency"]["columns"]
            for bn in self.section["saliency"]["bn"]
        ] + [
            f"ssl_transfer_reconstruction_{protocol}_{column['dataset']}"
            for protocol in self.section["reconstruction"]["protocols"]
            for column in self.section["reconstruction"]["columns"]
        ]
        return [f"{self.results}/figures/{name}.png" for name in names]

    def stage_files(self, stage: str, run: str, file: str, **wildcards: str) -> list[str]:
        """Return one file of each checkpoint's run of a stage."""
        return [
            f"{self.results}/ssl_transfer/{stage}/{run.format(checkpoint=name, **wildcards)}/{file}"
            for name in self.stage_checkpoints(stage)
        ]

    def _stage_runs(self, stage: str) -> Iterator[dict[str, str]]:
        for protocol in self.section[stage]["protocols"]:
            for checkpoint in self.stage_checkpoints(stage):
                for column in columns_of(self.section[stage], protocol):
                    yield {
                        "protocol": protocol,
                        "checkpoint": checkpoint,
                        "dataset": column["dataset"],
                    }

    def _stage_file(self, stage: str, run: str) -> str:
        return f"{self.results}/ssl_transfer/{stage}/{run}/predictions.parquet"
