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
    """A phase: its letter, display name, locks and function.

    ``shared``: as many hosts may run it at once as ALERTS_SENDERS says; other phases one host.
    ``cancellable``: a stop signal may cancel the running statement, because all of the phase's work
    is in statements that roll back.
    """

    letter: str
    name: str
    run: Callable[[PhaseContext], Counts]
    cancellable: bool = True
    shared: bool = False

    @property
    def lock_key(self) -> str:
        """The key of the lock that prevents a second runner from running the phase."""
        return f"alerts_v2_phase_{self.letter}"

    def lock_keys(self, senders: int) -> tuple[str, ...]:
        """The keys of which a runner takes one; the first is known to versions with only one."""
        others = range(2, senders + 1) if self.shared else ()
        return (self.lock_key, *(f"{self.lock_key}_{slot}" for slot in others))


PHASES = (
    Phase("a", "generate events", generate.run),
    Phase("b", "fan out", fanout.run),
    Phase("d", "build digests", digest.run),
    Phase("c", "send", sender.run, cancellable=False, shared=True),
)
ALL = "all"
PHASE_CHOICES = (*sorted(phase.letter for phase in PHASES), ALL)


def chosen(choice: str) -> tuple[Phase, ...]:
    """Return the phases for a letter or ``all``, in the order they run."""
    return tuple(phase for phase in PHASES if choice in (ALL, phase.letter))
