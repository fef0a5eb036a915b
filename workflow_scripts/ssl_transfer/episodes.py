"""Which images each few-shot episode shows: the draws of the released code, and sound ones.

An episode is a small task: some classes, a few labelled images of each (the support), and others
of the same classes to be named (the query).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.ssl_transfer.torch_stream import TorchStream

Rows = NDArray[np.int64]
MAX_DRAWS = 1000  # tries at one patient-disjoint episode before it counts as impossible; ours


@dataclass(frozen=True, slots=True)
class EpisodeShape:
    """How large an episode is, and how many there are."""

    n_way: int = 2  # classes (system B, README command)
    n_support: int = 20  # labelled images a class (system B, README command)
    n_query: int = 15  # images to classify a class (released code)
    n_episodes: int = 600  # episodes behind one mean and interval (released code)

    def __post_init__(self) -> None:
        lowest = {"n_way": 2, "n_support": 1, "n_query": 1, "n_episodes": 1}
        problems = [
            Problem(
                "--" + name.replace("_", "-"),
                f"a whole number of at least {low}",
                repr(getattr(self, name)),
                "give a larger number",
            )
            for name, low in lowest.items()
            if getattr(self, name) < low
        ]
        if problems:
            raise InputError(problems)

    @property
    def n_images(self) -> int:
        """Images that an episode takes from each of its classes."""
        return self.n_support + self.n_query


@dataclass(frozen=True, slots=True)
class Episodes:
    """The images of all episodes.

    Attributes:
        classes: class index of each episode's classes, shape (episodes, way).
        support: pool rows of the labelled images, shape (episodes, way, shot).
        query: pool rows of the images to classify, shape (episodes, way, query).
    """

    classes: Rows
    support: Rows
    query: Rows


def rows_by_class(labels: NDArray[np.int64], n_classes: int) -> list[Rows]:
    """Return the pool rows of each class, in pool order; labels in 0..n_classes-1, shape (N,)."""
    return [np.flatnonzero(labels == index).astype(np.int64) for index in range(n_classes)]


def check_classes(class_rows: Sequence[Rows], classes: Sequence[str], shape: EpisodeShape) -> None:
    """Raise unless every class can fill an episode and there are enough classes."""
    problems = [
        Problem(
            f"class {name!r}",
            f"at least {shape.n_images} images "
            f"({shape.n_support} support + {shape.n_query} query) in the pool",
            f"{len(rows)}",
            "lower --n-support or --n-query, or leave the class out of the data set",
        )
        for name, rows in zip(classes, class_rows, strict=True)
        if len(rows) < shape.n_images
    ]
    if len(class_rows) < shape.n_way:
        problems.append(
            Problem(
                "card.json, classes",
                f"at least {shape.n_way} classes for --n-way {shape.n_way}",
                f"{len(class_rows)} ({', '.join(classes)})",
                "lower --n-way",
            )
        )
    if problems:
        raise InputError(problems)


def released_episodes(
    class_rows: Sequence[Rows], shape: EpisodeShape, stream: TorchStream
) -> Episodes:
    """Draw the episodes that the released code draws.

    Classes come from a permutation; each class takes a fresh generator for its images; one more
    permutation, the same for all classes of the episode, says which of them are support.

    Args:
        class_rows: pool rows of each class, in the released order; each at least an episode's.
        shape: size and number of the episodes.
        stream: torch's generator as it stands after the network was built.

    Source: SSL transfer, released code, through the samplers of torch's DataLoader.
    """
    stream.int64()  # the seed of the outer loader, drawn and not used
    classes, images = [], []
    for _ in range(shape.n_episodes):
        chosen = stream.permutation_start(len(class_rows), shape.n_way)
        drawn = []
        for index in chosen:
            stream.int64()  # the seed of the class's loader, drawn and not used
            sampler = TorchStream(stream.int64())
            rows = class_rows[index]
            drawn.append(rows[sampler.permutation_start(len(rows), shape.n_images)])
        order = stream.permutation_start(shape.n_images, shape.n_images)
        classes.append(chosen)
        images.append(np.stack(drawn)[:, order])
    return _split(np.array(classes), np.stack(images), shape)


def corrected_episodes(
    class_rows: Sequence[Rows],
    patients: NDArray[np.int64],
    shape: EpisodeShape,
    rng: np.random.Generator,
) -> Episodes:
    """Draw episodes in which support and query share no patient.

    The support is drawn first, each class's images uniformly and without replacement. The query
    is then drawn in the same way from the images of all patients who gave no support image to
    any class. Where too few remain for a class, the whole episode is drawn again.

    Args:
        class_rows: pool rows of each class; each at least an episode's.
        patients: patient number (0, 1, ...) of each pool row, shape (N,).
        shape: size and number of the episodes.
        rng: the only source of randomness; not the network, so that all checkpoints see the same.

    Raises:
        InputError: if no such episode was found in `MAX_DRAWS` tries.

    Source: ours; the released code knows no patients.
    """
    classes, images = [], []
    for episode in range(shape.n_episodes):
        chosen, drawn = _disjoint_episode(class_rows, patients, shape, rng, episode)
        classes.append(chosen)
        images.append(drawn)
    return _split(np.stack(classes), np.stack(images), shape)


def _disjoint_episode(
    class_rows: Sequence[Rows],
    patients: NDArray[np.int64],
    shape: EpisodeShape,
    rng: np.random.Generator,
    episode: int,
) -> tuple[Rows, Rows]:
    """Return classes (way,) and images (way, support + query) of one patient-disjoint episode."""
    for _ in range(MAX_DRAWS):
        chosen = rng.choice(len(class_rows), shape.n_way, replace=False)
        pools = [class_rows[index] for index in chosen]
        support = [rng.choice(rows, shape.n_support, replace=False) for rows in pools]
        taken = np.zeros(patients.max() + 1, dtype=bool)
        taken[patients[np.concatenate(support)]] = True
        free = [rows[~taken[patients[rows]]] for rows in pools]
        if min(len(rows) for rows in free) >= shape.n_query:
            query = [rng.choice(rows, shape.n_query, replace=False) for rows in free]
            return chosen, np.concatenate([np.stack(support), np.stack(query)], axis=1)
    short = int(np.argmin([len(rows) for rows in free]))
    n_patients = len(np.unique(patients[pools[short]]))
    raise refuse(
        f"episode {episode}, class index {chosen[short]}",
        f"{shape.n_support} support and {shape.n_query} query images a class from different "
        "patients",
        f"no such draw in {MAX_DRAWS} tries; the class has {len(pools[short])} images of "
        f"{n_patients} patients",
        "lower --n-support or --n-query, or add patients to the class",
    )


def _split(classes: Rows, images: Rows, shape: EpisodeShape) -> Episodes:
    """Cut each class's images, shape (episodes, way, support + query), into the two sets."""
    return Episodes(
        classes.astype(np.int64), images[..., : shape.n_support], images[..., shape.n_support :]
    )
