"""What a worker keeps of an instance between two turns."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Final

from perdure.replay.machine import Machine
from perdure.runtime_state import RuntimeState
from perdure.spi import TurnItem

__all__ = ["Live"]

logger = logging.getLogger("perdure")

_CLOSE_SECONDS: Final = 1.0


@dataclass(slots=True, kw_only=True)
class Live:
    """What a worker keeps of an instance between two turns."""

    generation: str
    execution: int
    state: RuntimeState
    machine: Machine | None
    """None where no turn needed the code so far."""

    def fits(self, item: TurnItem) -> bool:
        """Return whether the stored instance is still where this left it."""
        return (
            self.generation == item.generation
            and self.execution == item.execution
            and self.state.next_seq == item.next_seq
        )

    def close(self) -> None:
        """Drop the orchestrator's frame."""
        if self.machine is None or not self.machine.is_waiting:
            return
        # Its `finally` blocks are user code, which may take for ever, and the engine must not.
        closing = threading.Thread(target=self.machine.close, name="perdure-eviction", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if closing.is_alive():
            logger.error(
                "orchestrator %r doesn't end when its cached copy is dropped; a `finally:` or `except:` of it goes on "
                "for ever",
                self.state.started.name if self.state.started is not None else None,
            )
