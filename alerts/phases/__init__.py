"""The phases, in the order they run: the one table from which everything else derives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alerts.phases import digest, fanout, generate
from alerts.phases.context import Counts, PhaseContext, Stop
from alerts.phases.send import sender

__all__ = ["ALL", "PHASES", "PHASE_CHOICES", "Counts", "Phase", "PhaseContext", "Stop", "chosen"]


@dataclass(frozen=True)
class Phase:
    """A phase: its letter, its name for people, its lock, and what it does.

    ``cancellable``: a stop signal may cancel the statement under way, since all of the phase's
    work is in statements that undo themselves.
    """

    letter: str
    name: str
    run: Callable[[PhaseContext], Counts]
    cancellable: bool = True

    @property
    def lock_key(self) -> str:
        """The key of the lock that keeps a second runner out of the phase."""
        return f"alerts_v2_phase_{self.letter}"


PHASES = (
    Phase("a", "generate events", generate.run),
    Phase("b", "fan out", fanout.run),
    Phase("d", "build digests", digest.run),
    Phase("c", "send", sender.run, cancellable=False),
)
ALL = "all"
PHASE_CHOICES = (*sorted(phase.letter for phase in PHASES), ALL)


def chosen(choice: str) -> tuple[Phase, ...]:
    """The phases of a choice, in the order they run."""
    return tuple(phase for phase in PHASES if choice in (ALL, phase.letter))
