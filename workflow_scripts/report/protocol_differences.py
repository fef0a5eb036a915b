"""In which options do the protocols differ? What could explain a number outside its tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from workflow_scripts.report.protocols_page import SECTIONS, shown


@dataclass(frozen=True, slots=True)
class Difference:
    """One option in which protocols differ.

    Attributes:
        name: of the option.
        values: protocol, and what it does as a reader would write it.
        why: what the option is about.
    """

    name: str
    values: tuple[tuple[str, str], ...]
    why: str

    @property
    def text(self) -> str:
        """The option with what each protocol does.

        >>> Difference("crop", (("released", "squash"), ("corrected", "whole")), "").text
        'crop (released: squash, corrected: whole)'
        """
        return f"{self.name} ({', '.join(f'{name}: {to}' for name, to in self.values)})"


def differences(
    table: str, system: str, sections: Sequence[tuple[str, Mapping[Any, Any]]] = SECTIONS
) -> tuple[Difference, ...]:
    """Return the options that differ between the protocols of a table.

    Args:
        table: its name; a list titled alike is its own, otherwise every list of its system counts.
        system: its system.
        sections: title and bundles of options, as docs/reference/protocols.md shows them.
    """
    titled = [(_name_of(title), bundles) for title, bundles in sections]
    own = [bundles for name, bundles in titled if name == table]
    chosen = own or [bundles for name, bundles in titled if name.startswith(system)]
    return tuple(one for bundles in chosen for one in _differences(bundles))


def _name_of(title: str) -> str:
    """Return a title as a table is named.

    >>> _name_of("SSL transfer: few-shot")
    'ssl_transfer_few_shot'
    """
    return title.lower().replace(":", "").replace("-", " ").replace(" ", "_")


def _differences(bundles: Mapping[Any, Any]) -> list[Difference]:
    """Return the options in which bundles of one step differ."""
    found = []
    for option in fields(next(iter(bundles.values()))):
        values = {name: getattr(bundle, option.name) for name, bundle in bundles.items()}
        if len({repr(value) for value in values.values()}) > 1:
            texts = tuple((str(name), shown(value)) for name, value in values.items())
            found.append(Difference(option.name, texts, option.metadata["why"]))
    return found
