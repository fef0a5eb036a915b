"""Which files the section `cooperative_training` of the configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from workflow_scripts.system_plan import Conflict, Named, SystemPlan

RUN = "{protocol}/{recipe}/{patients}/seed{seed}"  # one training
STORE = ("images.npy", "masks.npy", "parquet")


class CooperativeTrainingPlan(SystemPlan):
    """The runs of the cooperative training paper."""

    system = "cooperative_training"

    def names(self) -> Iterator[Named]:
        """Yield the data sets and the experiment that certifies them together."""
        yield Named(("dataset",), self.section["dataset"], "datasets")
        yield Named(("experiment",), self.section["experiment"], "experiments")
        for index, name in enumerate(self.section["test_sets"]):
            yield Named(("test_sets", str(index)), name, "datasets")

    def conflicts(self) -> Iterator[Conflict]:
        """Yield test sets in a misleading order, uncertified data sets, and one seed used twice."""
        yield from self._order()
        yield from self._uncertified()
        yield from self._repeated_seeds()

    def _order(self) -> Iterator[Conflict]:
        """Yield test sets that do not begin with the trained data, which the matrix calls ID."""
        own, tested = self.section["dataset"], self.section["test_sets"]
        if tested[0] != own:
            expected = f"{own} first: it is trained on, so its test patients are in distribution"
            step = f"begin with {own}; the trust matrix calls the first test set ID"
            yield Conflict(("test_sets",), expected, ", ".join(tested), step)

    def _uncertified(self) -> Iterator[Conflict]:
        """Yield data sets that the leak certificate would not know."""
        experiment = self.section["experiment"]
        certified = self.config.get("experiments", {}).get(experiment, ())
        for name in dict.fromkeys([self.section["dataset"], *self.section["test_sets"]]):
            if certified and name not in certified:
                expected = f"an experiment with {name}, for its leak certificate"
                found = f"{experiment}: {', '.join(certified)}"
                step = f"add it to experiments.{experiment}"
                yield Conflict(("experiment",), expected, found, step)

    def _repeated_seeds(self) -> Iterator[Conflict]:
        """Yield runs that would be the same seed of one cell."""
        first: dict[tuple[str, int], str] = {}
        for index, one in enumerate(self.section["runs"]):
            setting = one["patients"].rpartition("_cv_")[0] or one["patients"]
            before = first.setdefault((setting, one["seed"]), one["patients"])
            if before != one["patients"]:
                expected = "runs of as many patients with seeds of their own"
                found = f"seed {one['seed']} for {before} and {one['patients']}"
                step = "give each its own seed: a cell of the table holds a seed once"
                yield Conflict(("runs", str(index)), expected, found, step)

    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return the table of Dice and HD95, and that of the layer agreement."""
        return {
            "cooperative_training_dice": self.scores,
            "cooperative_training_agreement": self.agreements,
        }

    def store(self, dataset: str) -> dict[str, str]:
        """Return the three files of a data set's volume store, and its manifest."""
        folder = f"{self.results}/datasets/{dataset}"
        grid = self.config["datasets"][dataset]["grid"]
        files = {
            name: f"{folder}/volumes/{grid}.{suffix}"
            for name, suffix in zip(("images", "masks", "index"), STORE, strict=True)
        }
        return {**files, "manifest": f"{folder}/manifest.parquet"}

    def leak_free(self) -> str:
        """Return the certificate over training and test data."""
        return f"{self.results}/experiments/{self.section['experiment']}/leak_free.json"

    def runs(self) -> Iterator[dict[str, Any]]:
        """Yield the wildcards of every training."""
        given = self.section
        for protocol, recipe, one in product(given["protocols"], given["methods"], given["runs"]):
            yield {"protocol": protocol, "recipe": recipe, **one}

    def scores(self) -> list[str]:
        """Return the predictions behind the table."""
        return [
            f"{self._folder('score_segmenter', run)}/{dataset}/pass{stn_passes}/predictions.parquet"
            for run in self.runs()
            for dataset in self.section["test_sets"]
            for stn_passes in self.section["stn_passes"]
        ]

    def pictures(self) -> list[str]:
        """Return the figures: of the chosen run, for every protocol."""
        chosen = self.section["figures"]
        found = []
        for protocol, recipe in product(self.section["protocols"], self.section["methods"]):
            run = {"protocol": protocol, "recipe": recipe, **chosen}
            name = RUN.format(**run).replace("/", "-")
            found += [f"cases-{dataset}-{name}" for dataset in self.section["test_sets"]]
            found.append(f"hard_examples-{name}")
        for kind in ("severity", "agreement"):
            found += [f"{kind}-{protocol}" for protocol in self.section["protocols"]]
        return [f"{self.results}/figures/cooperative_training_{name}.png" for name in found]

    def severity_scores(self, protocol: str) -> list[str]:
        """Return the scores by severity of every run of a protocol."""
        return [
            f"{self._folder('severity_scores', run)}/scores.parquet"
            for run in self.runs()
            if run["protocol"] == protocol
        ]

    def agreements(self, protocol: str | None = None) -> list[str]:
        """Return the layer agreement of every run, or of one protocol's."""
        return [
            f"{self._folder('layer_agreement', run)}/predictions.parquet"
            for run in self.runs()
            if protocol in (None, run["protocol"])
        ]

    def training_words(self) -> str:
        """Return the command line's words for the options under `training`."""
        given = self.section["training"]
        return " ".join(f"--{name.replace('_', '-')} {given[name]}" for name in sorted(given))

    def _folder(self, step: str, run: dict[str, Any]) -> str:
        return f"{self.results}/cooperative_training/{step}/{RUN.format(**run)}"
