"""One turn: from an instance's messages to the commit of what its orchestrator decided.

Pure but for the user's code that runs in it: the same item, history and cached state give the same events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from perdure import decisions as d
from perdure import history as h
from perdure.conversion import DataConverter
from perdure.draft import Draft, Turn
from perdure.errors import Corrupt, NonDeterminismError
from perdure.failures import FailureDetails
from perdure.intake import Intake, take_in
from perdure.live import Live
from perdure.payloads import load
from perdure.recording import describe_decision
from perdure.registry import Registry
from perdure.replay.machine import Machine, TurnResult
from perdure.runtime_state import RuntimeState
from perdure.spi import UNSET, Millis, OrchestrationStatus, TurnItem

__all__ = ["ReadHistory", "TurnRunner"]

ReadHistory = Callable[[], Iterable[bytes]]
"""Reads the whole history of the current execution."""


class TurnRunner:
    """Runs turns.

    Args:
        registry: what this worker can run.
        converter: turns payloads into values and back.
        verify_replay: run every turn a second time, replayed from history, and compare.
    """

    def __init__(self, registry: Registry, converter: DataConverter, *, verify_replay: bool = False) -> None:
        self._registry = registry
        self._converter = converter
        self._verify_replay = verify_replay

    def run(self, item: TurnItem, live: Live | None, read_history: ReadHistory, now: Millis) -> Turn:
        """Run one turn.

        Args:
            item: what was claimed.
            live: what was kept of the instance, if it `fits`.
            read_history: called where there is history and no `live`.
            now: the hub's time.

        Raises:
            Corrupt: the history or a message can't be decoded.
        """
        recorded: list[h.Event] = []
        if live is None:
            state = RuntimeState()
            recorded = _recorded(item, read_history)
            for event in recorded:
                state.apply(event)
            live = Live(generation=item.generation, execution=item.execution, state=state, machine=None)
        draft = Draft(item, live, max(live.state.now, now), self._registry)
        intake = take_in(item.messages, live.state)
        result = self._decide(item, live, recorded, read_history, draft, intake)
        if result is not None:
            draft.conclude(result)
        return draft.turn()

    def refuse(self, turn: Turn, error: Exception) -> Turn:
        """Return a turn that fails the instance, in place of one that the provider will never store."""
        item = turn.item
        if turn.live is not None:
            turn.live.close()
        state = RuntimeState(started=turn.started, next_seq=item.next_seq)
        live = Live(generation=item.generation, execution=item.execution, state=state, machine=None)
        draft = Draft(item, live, turn.at, self._registry)
        draft.open_turn(Intake())
        failure = FailureDetails.from_exception(error)
        failed = d.CompleteOrchestration(status=OrchestrationStatus.FAILED, failure=failure)
        draft.conclude(TurnResult(decisions=[failed], custom_status=UNSET, used=0))
        return replace(draft.turn(), is_refusal=True)

    def end_unreadable(self, item: TurnItem, read_history: ReadHistory, now: Millis) -> Turn | None:
        """Return a turn that terminates an instance which can't be read as a whole; None if nobody asked for that.

        Where only a message is corrupt, its children end with it and its parent is told, as at any termination.
        """
        for message in item.messages:
            try:
                event = h.decode_event(message.payload)
            except Corrupt:
                continue
            if isinstance(event, h.ExecutionTerminated):
                intake = Intake(events=[event], stored=[message.payload], ids=[message.id])
                break
        else:
            return None
        state = RuntimeState()
        try:
            for recorded in _recorded(item, read_history):
                state.apply(recorded)
        except Corrupt:
            state = RuntimeState(next_seq=item.next_seq)
        live = Live(generation=item.generation, execution=item.execution, state=state, machine=None)
        draft = Draft(item, live, max(state.now, now), self._registry)
        draft.conclude(self._terminate(event, draft, intake, used=1))
        return draft.turn()

    @staticmethod
    def _terminate(terminated: h.ExecutionTerminated, draft: Draft, intake: Intake, *, used: int) -> TurnResult:
        """End the instance with the last of the first `used` events."""
        children = draft.terminations() if terminated.recurse else []
        draft.open_turn(intake, used=used)
        completion = d.CompleteOrchestration(status=OrchestrationStatus.TERMINATED, result=terminated.output)
        return TurnResult(decisions=[*children, completion], custom_status=UNSET, used=used)

    def _decide(
        self,
        item: TurnItem,
        live: Live,
        recorded: Sequence[h.Event],
        read_history: ReadHistory,
        draft: Draft,
        intake: Intake,
    ) -> TurnResult | None:
        """Let whoever is in charge see the turn's events: the state alone, or the orchestrator's code."""
        state = live.state
        events = intake.events
        end = next((i for i, event in enumerate(events) if type(event) is h.ExecutionTerminated), None)
        if end is not None:
            terminated = events[end]
            assert isinstance(terminated, h.ExecutionTerminated)
            return self._terminate(terminated, draft, intake, used=end + 1)
        registration = self._registry.orchestrators.get(item.name)
        if registration is None:
            draft.forward_control(intake)
            return None
        draft.consumed += intake.dropped
        if not intake.events and not state.awaits_turn:
            return None
        idle = state.suspended and live.machine is None and not intake.has(h.ExecutionResumed)
        if idle or (state.started is None and not intake.has(h.ExecutionStarted)):
            draft.open_turn(intake)
            return None
        started = h.OrchestratorStarted(timestamp=draft.at)
        turn_events = [started, *intake.events]
        try:
            if live.machine is None:
                live.machine = Machine(registration, self._converter)
                # What was kept may be a state without a machine, whose turns needed no code so far.
                live.machine.replay(recorded or _recorded(item, read_history))
            result = live.machine.advance(turn_events)
            if self._verify_replay:
                shadow = Machine(registration, self._converter, is_silent=True)
                try:
                    shadow.replay(_recorded(item, read_history))
                    self._compare(result, shadow.advance(turn_events), state.next_seq + result.used)
                finally:
                    shadow.close()
        except (NonDeterminismError, RecursionError) as error:
            # A RecursionError is the orchestrator's making too: composites nested a thousand deep.
            failure = FailureDetails.from_exception(error)
            failed = d.CompleteOrchestration(status=OrchestrationStatus.FAILED, failure=failure)
            result = TurnResult(decisions=[failed], custom_status=UNSET, used=len(turn_events))
        draft.open_turn(intake, used=result.used - 1)
        return result

    def _compare(self, live: TurnResult, shadow: TurnResult, first_seq: int) -> None:
        longest = max(len(live.decisions), len(shadow.decisions))
        for place in range(longest):
            one = live.decisions[place] if place < len(live.decisions) else None
            other = shadow.decisions[place] if place < len(shadow.decisions) else None
            if one is None or other is None or not self._is_same(one, other):
                raise NonDeterminismError(first_seq + place, self._in_full(one), self._in_full(other))
        if live.custom_status != shadow.custom_status:
            raise NonDeterminismError(
                first_seq + longest,
                f"custom status {live.custom_status!r:.200}",
                f"custom status {shadow.custom_status!r:.200}",
            )

    def _is_same(self, one: d.Decision, other: d.Decision) -> bool:
        return self._value_of(one) == self._value_of(other)

    def _value_of(self, decision: d.Decision) -> tuple[Any, ...]:
        # By value: the same value may be written differently by another version's encoder. Stack traces differ.
        payload = getattr(decision, "result" if isinstance(decision, d.CompleteOrchestration) else "input", None)
        changes: dict[str, Any] = {}
        match decision:
            case d.CompleteOrchestration():
                changes = {"result": None, "failure": None}
            case d.ScheduleActivity() | d.StartSubOrchestration() | d.SendEvent() | d.ContinueOrchestration():
                changes = {"input": None}
        return replace(decision, **changes), load(self._converter, payload)

    def _in_full(self, decision: d.Decision | None) -> str:
        if decision is None:
            return "nothing"
        payload = getattr(decision, "input", None)
        return describe_decision(decision) + (f" with input {payload!r:.200}" if payload is not None else "")


def _recorded(item: TurnItem, read_history: ReadHistory) -> list[h.Event]:
    return [h.decode_event(stored) for stored in read_history()] if item.next_seq else []
