"""The phases in the order they run; every other list of phases derives from this table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alerts.phases import digest, fanout, generate
from alerts.phases.context import Counts, PhaseContext, Stop
from alerts.phases.send import sender

__all__ = ["ALL", "PHASES", "PHASE_CHOICES", "Counts", "Phase", "PhaseContext", "Stop", "chosen"]


@dataclass(frozen=True)
class Phase:
    """A phase: its letter, display name, lock and function.

    ``cancellable``: a stop signal may cancel the running statement, because all of the phase's work
    is in statements that roll back.
    """

    letter: str
    name: str
    run: Callable[[PhaseContext], Counts]
    cancellable: bool = True

    @property
    def lock_key(self) -> str:
        """The key of the lock that prevents a second runner from running the phase."""
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
    """Return the phases for a letter or ``all``, in the order they run."""
    return tuple(phase for phase in PHASES if choice in (ALL, phase.letter))
