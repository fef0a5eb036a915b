"""The numbers of a training, from the configuration's JSON to frozen, checked records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from workflow_scripts.problems import InputError, Problem, nearest, refuse

SIDE_MULTIPLE = 32  # released code asserts it
SMALLEST_SIDE = 64  # a feature map of 4 x 4: the window attention reflects 3 places
MIXING_HEADS = 4  # channels are shared out over them, features over four encodings
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of the network.

    Attributes:
        trunk: `resnet` (from a checkpoint) or `small` (four convolutions, for small machines).
        image_size: pixels a side.
        features: H of the transformer; the trunk's channels in the released network.
        heads: of every attention of the transformer.
        feed_forward: hidden width of its feed-forward networks.
        encoder_layers: how many.
        decoder_layers: how many.
        dropout: inside the transformer.
        intervention_dropout: share of the shuffled Q-bar that is dropped.
    """

    trunk: str = "resnet"
    image_size: int = 320  # released launcher
    features: int = 2048  # released code
    heads: int = 4  # released code
    feed_forward: int = 8192  # released code
    encoder_layers: int = 1  # released code
    decoder_layers: int = 2  # released code
    dropout: float = 0.1  # released code
    intervention_dropout: float = 0.3  # released launcher; the parser's default is 0.35

    def __post_init__(self) -> None:
        problems = []
        fix = "correct crocodile.network in the configuration"
        if self.image_size < SMALLEST_SIDE or self.image_size % SIDE_MULTIPLE:
            expected = f"a multiple of {SIDE_MULTIPLE}, at least {SMALLEST_SIDE}"
            found = f"{self.image_size} pixels"
            problems.append(Problem("network.image_size", expected, found, fix))
        if self.features % MIXING_HEADS or self.features % max(self.heads, 1) or self.heads < 1:
            expected = f"a multiple of {MIXING_HEADS} and of heads ({self.heads})"
            problems.append(Problem("network.features", expected, str(self.features), fix))
        if self.trunk not in ("resnet", "small"):
            problems.append(Problem("network.trunk", "resnet or small", repr(self.trunk), fix))
        if min(self.encoder_layers, self.decoder_layers, self.feed_forward) < 1:
            found = f"{self.encoder_layers}, {self.decoder_layers}, {self.feed_forward}"
            problems.append(Problem("network layers and width", "at least 1 each", found, fix))
        if not (0 <= self.dropout < 1 and 0 <= self.intervention_dropout < 1):
            found = f"{self.dropout}, {self.intervention_dropout}"
            problems.append(Problem("network dropouts", "from 0 to below 1", found, fix))
        if problems:
            raise InputError(problems)


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Factors of the twelve terms; a term that a variant lacks does not use its factor."""

    asl_causal: float
    kl_spurious: float
    asl_intervened: float
    ce_causal: float
    kl_domain_spurious: float
    ce_intervened: float
    image: float
    same_disease: float
    different_disease: float
    same_domain: float
    different_domain: float
    prior: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast is trained.

    Attributes:
        epochs: passes over the training images.
        global_batch: images behind one update.
        micro_batch: images of one forward pass; the batch losses see these together.
        learning_rate: the largest of the cycle.
        weight_decay: of AdamW, on every trained tensor.
        patience: epochs without a better validation before it stops; None never stops.
        evaluation_batch: images of one forward pass in evaluation.
    """

    epochs: int
    global_batch: int
    micro_batch: int
    learning_rate: float
    weight_decay: float
    patience: int | None
    evaluation_batch: int

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.evaluation_batch < 1:
            found = f"{self.epochs}, {self.evaluation_batch}"
            raise refuse("training.epochs, evaluation_batch", "at least 1", found, "correct it")


def record(kind: type[T], text: str, where: str) -> T:
    """Return a record of `kind` from a JSON object.

    Args:
        kind: a dataclass.
        text: the object.
        where: names it in messages, such as `--network`.

    Raises:
        InputError: no JSON object, an unknown or a missing key, a value out of range.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise refuse(where, "a JSON object", f"{text[:60]!r} ({error})", "quote it") from None
    if not isinstance(content, Mapping):
        raise refuse(where, "a JSON object", text[:60], "write {...}")
    return record_of(kind, content, where)


def record_of(kind: type[T], content: Mapping[str, Any], where: str) -> T:
    """Return a record of `kind` from a mapping; see `record`."""
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    needed = [name for name, one in known.items() if one.default is MISSING]
    problems = [
        Problem(f"{where} key {key!r}", "a known key", repr(key), nearest(key, known))
        for key in content
        if key not in known
    ]
    problems += [
        Problem(f"{where} key {name!r}", "a value", "none", "add it")
        for name in needed
        if name not in content
    ]
    problems += [
        Problem(f"{where} key {name!r}", "a number", repr(value), "correct it")
        for name, value in content.items()
        if name in known and str(known[name].type) in ("int", "float") and not _is_number(value)
    ]
    if problems:
        raise InputError(problems)
    return kind(**content)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
