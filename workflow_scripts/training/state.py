"""The saved states of a training: whole, checked, with the one before as a fallback."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workflow_scripts.files import read_json, sha256_of, write_atomic, write_json
from workflow_scripts.problems import InputError, refuse
from workflow_scripts.training.fingerprint import Fingerprint, differences

KEPT = 2  # states on disk: the newest and, until it proves whole, the one before
OnMismatch = Literal["refuse", "fresh"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SavedState:
    """One state on disk: the tensors, and beside them a small readable card.

    The card is written last and carries the hash of the tensors, so a state with a card that
    fits is whole; a state without one was being written when its process died.
    """

    path: Path  # state-00000120.pt; the card has the suffix .json
    step: int

    @property
    def card_path(self) -> Path:
        """The card beside the state."""
        return self.path.with_suffix(".json")

    def __str__(self) -> str:
        return f"{self.path} (after step {self.step})"


class StateStore:
    """Saves and finds the states of one training in one folder.

    Args:
        folder: of this training alone; not an output of any rule, which Snakemake would delete.
        fingerprint: what a state must belong to.
        on_mismatch: what to do with a state of something else: refuse, or drop it.
    """

    def __init__(
        self, folder: Path, fingerprint: Fingerprint, on_mismatch: OnMismatch = "refuse"
    ) -> None:
        self.folder, self.fingerprint, self.on_mismatch = folder, fingerprint, on_mismatch
        self.last_good: SavedState | None = None

    def find(self) -> SavedState | None:
        """Return the newest whole state of this training, or None to start from the beginning.

        Raises:
            InputError: if a state belongs to something else, or none of several is whole.
        """
        self._remove_unfinished()
        broken: list[str] = []
        states = self._listed()
        for state in states:
            reason = self._unusable(state)
            if reason is None:
                self.last_good = state
                if broken:
                    logger.warning("falling back to the state before: %s", state)
                for newer in states[: len(broken)]:
                    _remove(newer)
                return state
            broken.append(reason)
            logger.warning("%s: %s; not used", state.path, reason)
        if broken and self.on_mismatch == "refuse":
            raise refuse(
                str(self.folder),
                "a whole saved state",
                "; ".join(broken),
                "start from the beginning with --on-mismatch fresh",
            )
        self.clear()
        return None

    def load(self, state: SavedState) -> dict[str, Any]:
        """Return what was saved, with all tensors on the CPU."""
        import torch

        content: dict[str, Any] = torch.load(state.path, map_location="cpu", weights_only=True)
        return content

    def save(self, content: Mapping[str, Any], step: int, note: Mapping[str, Any]) -> SavedState:
        """Write a state, whole or not at all; the one before stays until this one is whole.

        Args:
            content: tensors, numbers, texts, and containers of them.
            step: updates done.
            note: what a reader of the card wants to know, such as the epoch.
        """
        import torch

        state = SavedState(self.folder / f"state-{step:08d}.pt", step)
        state.card_path.unlink(missing_ok=True)  # the same step again, after a fallback
        write_atomic(state.path, lambda partial: torch.save(dict(content), partial))
        card = {
            "step": step,
            **note,
            "saved_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "sha256": sha256_of(state.path),
            "bytes": state.path.stat().st_size,
            "fingerprint": self.fingerprint,
        }
        write_json(state.card_path, card)
        self.last_good = state
        for old in [other for other in self._listed() if other != state][KEPT - 1 :]:
            _remove(old)
        return state

    def clear(self) -> None:
        """Remove every state: the outputs are written, or the states belong to something else."""
        for state in self._listed():
            _remove(state)
        self.last_good = None

    def _listed(self) -> list[SavedState]:
        """Return the states that have a card, newest first."""
        cards = self.folder.glob("state-[0-9]*.json")
        found = [SavedState(card.with_suffix(".pt"), int(card.stem[6:])) for card in cards]
        return sorted(found, key=lambda state: -state.step)

    def _unusable(self, state: SavedState) -> str | None:
        """Return why `state` cannot be used, or None; refuse one of something else."""
        try:
            card = read_json(state.card_path)
            saved, expected = dict(card["fingerprint"]), str(card["sha256"])
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            return f"{state.card_path.name} is damaged ({error})"
        if not state.path.exists():
            return f"{state.path.name} is missing"
        if sha256_of(state.path) != expected:
            return f"{state.path.name} is damaged (its hash is not the one on its card)"
        problems = differences(self.fingerprint, saved, str(state.path))
        if problems and self.on_mismatch == "refuse":
            raise InputError(problems)
        if problems:
            return "belongs to another training: " + ", ".join(
                problem.where.rsplit(": ", 1)[1] for problem in problems
            )
        return None

    def _remove_unfinished(self) -> None:
        """Remove what a killed process left half-written."""
        for partial in self.folder.glob(".state-*.partial*"):
            partial.unlink()
        for path in self.folder.glob("state-*.pt"):
            if not path.with_suffix(".json").exists():
                path.unlink()


def _remove(state: SavedState) -> None:
    """Remove a state, its card first, so that a kill in between leaves no card without state."""
    state.card_path.unlink()
    state.path.unlink(missing_ok=True)
