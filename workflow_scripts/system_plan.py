"""What every system tells the workflow about its section of the configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

Config = Mapping[str, Any]


class Named(NamedTuple):
    """A name that a system's section uses; `settings` proves that it is configured."""

    keys: tuple[str, ...]  # where it stands, below the system's section
    name: str
    kind: str  # where it must be configured: `datasets`, `checkpoints` or `experiments`


class Conflict(NamedTuple):
    """Values of a system's section that the schema allows and that cannot be run."""

    keys: tuple[str, ...]  # where they stand, below the system's section
    expected: str
    found: str
    next_step: str


class SystemPlan(ABC):
    """One system's part of the plan: which files its section of the configuration asks for.

    Attributes:
        system: the system's name: of its package, rule file, target and section.
        config: the whole configuration.
        section: the system's own section.
        results: the folder of results.
    """

    system: ClassVar[str]

    def __init__(self, config: Config) -> None:
        self.config = config
        self.section: Config = config[self.system]
        self.results: str = config["pathvars"]["results"]

    @abstractmethod
    def names(self) -> Iterable[Named]:
        """Return every data set, checkpoint and experiment that the section names."""

    @abstractmethod
    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return each table's name with the function that lists its predictions.

        The rule `table` makes these tables. One that a rule of the system makes by itself does
        not belong here.
        """

    def conflicts(self) -> Iterable[Conflict]:
        """Return what the section asks for and no step can run; `settings` refuses it."""
        return ()

    def other_tables(self) -> list[str]:
        """Return the tables that rules of the system make by themselves; they join the ledger."""
        return []
