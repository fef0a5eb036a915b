"""Which files the section `debiased_noise` of the configuration asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from workflow_scripts.debiased_noise.protocols import ATTRIBUTE, HEAD, WITHOUT_EDIT, Protocol
from workflow_scripts.problems import nearest, refuse
from workflow_scripts.system_plan import Named, SystemPlan

TABLE = "debiased_noise_fairness"
EDIT = "{protocol}/{checkpoint}/{dataset}/{method}/seed{seed}"
HEAD_RUN = "{protocol}/{read_out}/{dataset}/{method}/seed{seed}"
EDITED = "{protocol}-{edit_checkpoint}-{method}-seed{seed}"  # what an edited embedding is of
EDITED_PARTS = re.compile(r"(released|corrected)-(.+)-([a-z_]+)-seed([0-9]+)")
EDIT_FIGURE = "{protocol}-{checkpoint}-{dataset}-{method}-seed{seed}"


class Run(NamedTuple):
    """The wildcards of one trained disease head."""

    protocol: Protocol
    read_out: str
    dataset: str
    method: str
    seed: int


class DebiasedNoisePlan(SystemPlan):
    """The runs of the debiased noise paper."""

    system = "debiased_noise"

    def names(self) -> Iterator[Named]:
        """Yield the checkpoints of each read-out in use, and the data sets of each run.

        Raises:
            InputError: a run asks for a read-out that is not described.
        """
        known = self.section["read_outs"]
        used = [name for run in self.section["runs"] for name in run["read_outs"]]
        for name in dict.fromkeys(used):
            if name not in known:
                where = "config key debiased_noise.runs"
                raise refuse(where, "names of read_outs", repr(name), nearest(name, known))
            for role in ("edit", "head"):
                yield Named(("read_outs", name, role), known[name][role], "checkpoints")
        for index, run in enumerate(self.section["runs"]):
            for place, dataset in enumerate(run["datasets"]):
                yield Named(("runs", str(index), "datasets", str(place)), dataset, "datasets")

    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return the one table."""
        return {TABLE: self.predictions}

    def runs(self) -> Iterator[Run]:
        """Yield every head that is trained, in the order of the table."""
        for run in self.section["runs"]:
            for read_out in run["read_outs"]:
                for dataset in run["datasets"]:
                    for method in run["methods"]:
                        for seed in run["seeds"]:
                            yield Run(run["protocol"], read_out, dataset, method, seed)

    def predictions(self) -> list[str]:
        """Return the predictions behind the table."""
        top = f"{self.results}/debiased_noise/heads"
        return [
            f"{top}/{HEAD_RUN.format(**run._asdict())}/predictions.parquet" for run in self.runs()
        ]

    def figures(self) -> list[str]:
        """Return the pictures of the edits, one seed of each, and the plane of the table."""
        names: dict[tuple[str, ...], str] = {}
        for run in self.runs():
            if run.method not in WITHOUT_EDIT:
                checkpoint = self.checkpoint("edit", run.read_out)
                place = (run.protocol, checkpoint, run.dataset, run.method)
                names.setdefault(place, EDIT_FIGURE.format(checkpoint=checkpoint, **run._asdict()))
        top = f"{self.results}/figures/debiased_noise"
        return [f"{top}_edit-{name}.png" for name in names.values()] + [f"{top}_plane.png"]

    # What the rules ask

    def checkpoint(self, role: str, read_out: str) -> str:
        """Return the checkpoint that edits or heads of a read-out are trained on."""
        return str(self.section["read_outs"][read_out][role])

    def attribute(self, dataset: str) -> str:
        """Return what a data set's training images are biased by; the released files: sex."""
        split: dict[str, Any] = self.config["datasets"][dataset].get("biased_split") or {}
        return str(split.get("attribute", "sex"))

    def edit(self, protocol: str, checkpoint: str, dataset: str, method: str, seed: str) -> str:
        """Return the file of an edit."""
        name = EDIT.format(
            protocol=protocol, checkpoint=checkpoint, dataset=dataset, method=method, seed=seed
        )
        return f"{self.results}/debiased_noise/edits/{name}/noise_edit.safetensors"

    def edit_of_embeddings(self, wildcards: Any) -> dict[str, str]:  # noqa: ANN401
        """Return the edit that embeddings are of, by the name of their file; or nothing."""
        parts = EDITED_PARTS.fullmatch(wildcards.edited)
        if parts is None:
            return {}
        protocol, checkpoint, method, seed = parts.groups()
        return {"edit": self.edit(protocol, checkpoint, wildcards.dataset, method, seed)}

    def edit_of_run(self, wildcards: Any) -> list[str]:  # noqa: ANN401, Snakemake's own class
        """Return the edit behind a head, or none."""
        w = wildcards
        if w.method in WITHOUT_EDIT:
            return []
        checkpoint = self.checkpoint("edit", w.read_out)
        return [self.edit(w.protocol, checkpoint, w.dataset, w.method, w.seed)]

    def edited(self, wildcards: Any) -> str:  # noqa: ANN401
        """Return what the embeddings of a head are of: an edit's name, or `unedited`."""
        w = wildcards
        if w.method in WITHOUT_EDIT:
            return "unedited"
        return EDITED.format(
            protocol=w.protocol, method=w.method, seed=w.seed,
            edit_checkpoint=self.checkpoint("edit", w.read_out),
        )  # fmt: skip

    def edit_word(self, wildcards: Any) -> str:  # noqa: ANN401
        """Return the edit behind a head as words of a command line."""
        return "".join(f"--edit {path}" for path in self.edit_of_run(wildcards))

    def embeddings(self, wildcards: Any, role: str) -> str:  # noqa: ANN401
        """Return the embeddings behind a head, of the checkpoint in a role."""
        checkpoint = self.checkpoint(role, wildcards.read_out)
        top = f"{self.results}/debiased_noise/embeddings"
        return f"{top}/{checkpoint}/{wildcards.dataset}/{self.edited(wildcards)}.npz"

    def frozen(self, wildcards: Any) -> str:  # noqa: ANN401
        """Return the attribute classifier that the edit of a head was trained against."""
        w = wildcards
        top = f"{self.results}/debiased_noise/attribute/{w.protocol}"
        place = f"{self.checkpoint('edit', w.read_out)}/{w.dataset}/seed{w.seed}"
        return f"{top}/{place}/attribute_classifier.safetensors"

    def retrained(self, wildcards: Any) -> str:  # noqa: ANN401
        """Return the attribute classifier trained anew on the embeddings of a head."""
        w = wildcards
        top = f"{self.results}/debiased_noise/retrained/{self.checkpoint('head', w.read_out)}"
        return f"{top}/{w.dataset}/{self.edited(w)}/seed{w.seed}/attribute_classifier.safetensors"

    def live_files(
        self, step: str, protocol: Protocol, checkpoint: str, dataset: str
    ) -> dict[str, str]:
        """Return the network and the images that a step with stochastic depth reads, or nothing."""
        options = ATTRIBUTE[protocol] if step == "attribute" else HEAD[protocol]
        if options.stochastic_depth == 0:
            return {}
        backbone = f"{self.results}/checkpoints/{checkpoint}"
        store = f"{self.results}/datasets/{dataset}/store/{self.section['geometry']}"
        return {
            "backbone": f"{backbone}/backbone.safetensors",
            "certificate": f"{backbone}/certificate.json",
            "store": f"{store}.npy",
            "index": f"{store}.parquet",
        }

    def live_words(self, step: str, protocol: Protocol, checkpoint: str, dataset: str) -> str:
        """Return the same files as words of a command line."""
        files = self.live_files(step, protocol, checkpoint, dataset)
        return " ".join(f"--{name} {path}" for name, path in files.items())
