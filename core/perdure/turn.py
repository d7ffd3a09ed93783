"""One turn: from an instance's messages to the commit of what its orchestrator decided.

Pure but for the user's code that runs in it: the same item, history and cached state give the same events.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from perdure import decisions as d
from perdure import history as h
from perdure.conversion import DataConverter
from perdure.errors import Corrupt, InstanceAlreadyExists, NonDeterminismError
from perdure.failures import FailureDetails
from perdure.payloads import load
from perdure.recording import describe_decision, record
from perdure.registry import Registry
from perdure.replay.machine import Machine, TurnResult
from perdure.runtime_state import RuntimeState
from perdure.spi import (
    UNSET,
    Delivery,
    Message,
    Millis,
    NewActivity,
    NewInstance,
    NextExecution,
    OrchestrationStatus,
    ThreeValued,
    TurnCommit,
    TurnItem,
)

__all__ = ["Live", "ReadHistory", "Turn", "TurnRunner", "start_event"]

logger = logging.getLogger("perdure")

ReadHistory = Callable[[], Iterable[bytes]]
"""Reads the whole history of the current execution."""

_RETRY_REPLACES: Final = frozenset({OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED})


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
        if self.machine is not None:
            self.machine.close()


@dataclass(slots=True, kw_only=True)
class Turn:
    """A turn that ran."""

    item: TurnItem
    commit: TurnCommit
    started: h.ExecutionStarted | None
    live: Live | None
    """To be kept if the commit is applied; None where nothing of it is worth keeping."""
    is_refusal: bool = False
    """It ends an instance whose real turn the provider refused."""


def start_event(
    *,
    at: Millis,
    name: str,
    instance_id: str,
    input: bytes | None,
    version: str | None = None,
    parent: h.ParentInstance | None = None,
    tags: Any = None,
    continued_from: str | None = None,
    trace_context: h.TraceContext | None = None,
) -> h.ExecutionStarted:
    """Return the event that starts an execution under a fresh execution id."""
    return h.ExecutionStarted(
        timestamp=at,
        name=name,
        instance_id=instance_id,
        execution_id=uuid.uuid4().hex,
        version=version,
        input=input,
        parent=parent,
        tags=dict(tags) if tags else None,
        continued_from=continued_from,
        trace_context=trace_context,
    )


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
        draft = _Draft(item, live, max(live.state.now, now), self._registry)
        intake = _take_in(item.messages, live.state)
        result = self._decide(item, live, recorded, read_history, draft, intake)
        if result is not None:
            draft.conclude(result)
        return draft.turn()

    def refuse(self, turn: Turn, error: Exception, now: Millis) -> Turn:
        """Return a turn that fails the instance, in place of one that the provider will never store."""
        item = turn.item
        if turn.live is not None:
            turn.live.close()
        state = RuntimeState(started=turn.started, next_seq=item.next_seq)
        live = Live(generation=item.generation, execution=item.execution, state=state, machine=None)
        draft = _Draft(item, live, now, self._registry)
        draft.open_turn(_Intake())
        failure = FailureDetails.from_exception(error)
        failed = d.CompleteOrchestration(status=OrchestrationStatus.FAILED, failure=failure)
        draft.conclude(TurnResult(decisions=[failed], custom_status=UNSET, used=0))
        return replace(draft.turn(), is_refusal=True)

    def end_unreadable(self, item: TurnItem, now: Millis) -> Turn | None:
        """Return a turn that terminates an instance whose history can't be read; None if nobody asked for that."""
        for message in item.messages:
            try:
                event = h.decode_event(message.payload)
            except Corrupt:
                continue
            if not isinstance(event, h.ExecutionTerminated):
                continue
            state = RuntimeState(next_seq=item.next_seq)
            live = Live(generation=item.generation, execution=item.execution, state=state, machine=None)
            draft = _Draft(item, live, now, self._registry)
            draft.open_turn(_Intake(events=[event], stored=[message.payload], ids=[message.id]))
            ended = d.CompleteOrchestration(status=OrchestrationStatus.TERMINATED, result=event.output)
            draft.conclude(TurnResult(decisions=[ended], custom_status=UNSET, used=0))
            return draft.turn()
        return None

    def _decide(
        self,
        item: TurnItem,
        live: Live,
        recorded: Sequence[h.Event],
        read_history: ReadHistory,
        draft: _Draft,
        intake: _Intake,
    ) -> TurnResult | None:
        """Let whoever is in charge see the turn's events: the state alone, or the orchestrator's code."""
        state = live.state
        events = intake.events
        end = next((i for i, event in enumerate(events) if type(event) is h.ExecutionTerminated), None)
        if end is not None:
            terminated = events[end]
            assert isinstance(terminated, h.ExecutionTerminated)
            children = draft.terminations() if terminated.recurse else []
            draft.open_turn(intake, used=end + 1)
            completion = d.CompleteOrchestration(status=OrchestrationStatus.TERMINATED, result=terminated.output)
            return TurnResult(decisions=[*children, completion], custom_status=UNSET, used=end + 1)
        registration = self._registry.orchestrators.get(item.name)
        if registration is None:
            draft.forward_control(intake)
        draft.consumed += intake.dropped
        if not intake.events and (registration is None or not state.awaits_turn):
            return None
        idle = state.suspended and live.machine is None and not intake.has(h.ExecutionResumed)
        if registration is None or idle or (state.started is None and not intake.has(h.ExecutionStarted)):
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
        except NonDeterminismError as error:
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


@dataclass(slots=True, kw_only=True)
class _Intake:
    """A turn's messages, sorted out."""

    events: list[h.Event] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    """Ids of messages that say nothing (any more)."""

    def has(self, kind: type[h.Event]) -> bool:
        return any(type(event) is kind for event in self.events)

    def keep(self, wanted: Callable[[h.Event], bool]) -> None:
        """Leave all other messages where they are, in the inbox."""
        kept = [i for i, event in enumerate(self.events) if wanted(event)]
        self.events = [self.events[i] for i in kept]
        self.stored = [self.stored[i] for i in kept]
        self.ids = [self.ids[i] for i in kept]
        self.dropped.clear()


def _take_in(messages: Sequence[Delivery], state: RuntimeState) -> _Intake:
    intake = _Intake()
    settled: set[int] = set()
    for message in messages:
        if not message.payload:
            # It only had to wake the instance.
            intake.dropped.append(message.id)
            continue
        event = h.decode_event(message.payload)
        number = _answered(event)
        if number is not None:
            # The outcome of something that this execution doesn't wait for: of a former execution or attempt.
            if number in settled or not state.awaits(number, message.id):
                intake.dropped.append(message.id)
                continue
            settled.add(number)
        intake.events.append(event)
        intake.stored.append(message.payload)
        intake.ids.append(message.id)
    return intake


def _answered(event: h.Event) -> int | None:
    match event:
        case h.TaskCompleted() | h.TaskFailed() | h.SubOrchestrationCompleted() | h.SubOrchestrationFailed():
            return event.task_scheduled_id
        case h.TimerFired():
            return event.timer_id
        case _:
            return None


class _Draft:
    """A commit in the making."""

    def __init__(self, item: TurnItem, live: Live, at: Millis, registry: Registry) -> None:
        self.at = at
        self.consumed: list[str] = []
        self._item = item
        self._live: Live | None = live
        self._state = live.state
        self._registry = registry
        self._events: list[bytes] = []
        self._activities: list[NewActivity] = []
        self._messages: list[Message] = []
        self._starts: list[NewInstance] = []
        self._cancel_activities: list[str] = []
        self._cancel_messages: list[str] = []
        self._completion: d.CompleteOrchestration | None = None
        self._continued: NextExecution | None = None
        self._custom_status: ThreeValued = UNSET

    def open_turn(self, intake: _Intake, *, used: int | None = None) -> None:
        """Record that a turn began, and the messages that went in."""
        self._append(h.OrchestratorStarted(timestamp=self.at))
        for event, stored in zip(intake.events[:used], intake.stored[:used], strict=True):
            self._append(event, stored)
        self.consumed += intake.ids[:used]

    def forward_control(self, intake: _Intake) -> None:
        """Keep of `intake` what a worker without the instance's code can deal with: only a suspension.

        Control messages come to any worker. What needs the code (a resumption, or anything for an execution whose
        first turn is still to come) is sent again as an ordinary message, for a worker that has it.
        """

        def is_ours(event: h.Event) -> bool:
            return type(event) is h.ExecutionSuspended and not self._state.awaits_turn

        for event, stored, message_id in zip(intake.events, intake.stored, intake.ids, strict=True):
            if isinstance(event, (h.ExecutionSuspended, h.ExecutionResumed)) and not is_ours(event):
                self.consumed.append(message_id)
                self._messages.append(self._to_self(f"{message_id}+", stored))
        intake.keep(is_ours)

    def terminations(self) -> list[d.Decision]:
        """Return the decisions that terminate all open children."""
        return [
            d.TerminateInstance(instance_id=task.instance_id, generation=self._child_generation(task.seq))
            for task in self._state.open.values()
            if task.instance_id is not None
        ]

    def conclude(self, result: TurnResult) -> None:
        """Turn decisions into events and effects."""
        self._custom_status = result.custom_status
        for decision in result.decisions:
            _CONCLUDERS[type(decision)](self, decision)

    def turn(self) -> Turn:
        """Return the commit."""
        item, state = self._item, self._state
        completion = self._completion
        ended = completion is not None or self._continued is not None
        if completion is not None:
            status = completion.status
        elif state.suspended:
            status = OrchestrationStatus.SUSPENDED
        else:
            status = OrchestrationStatus.PENDING if state.started is None else OrchestrationStatus.RUNNING
        failure = completion.failure if completion is not None else None
        if ended:
            # What nobody can wait for any more isn't started: neither by a finished instance nor by a closed execution.
            self._activities.clear()
        commit = TurnCommit(
            lease=item.lease,
            commit_id=uuid.uuid4().hex,
            execution=item.execution,
            expected_next_seq=item.next_seq,
            status=status,
            events=self._events,
            consumed=self.consumed,
            activities=self._activities,
            messages=self._messages,
            starts=self._starts,
            cancel_activities=self._cancel_activities,
            cancel_all=self._continued is not None,
            cancel_messages=self._cancel_messages,
            output=completion.result if completion is not None else UNSET,
            custom_status=self._custom_status,
            failure=h.encode_failure(failure) if failure is not None else None,
            continued=self._continued,
        )
        if ended and self._live is not None:
            self._live.close()
            self._live = None
        return Turn(item=item, commit=commit, started=state.started, live=self._live)

    def _append(self, event: h.Event, stored: bytes | None = None) -> bytes:
        encoded = h.encode_event(event) if stored is None else stored
        self._events.append(encoded)
        self._state.apply(event)
        return encoded

    def _to_self(self, message_id: str, payload: bytes, *, due: Millis = 0) -> Message:
        item = self._item
        return Message(id=message_id, instance=item.instance, generation=item.generation, payload=payload, due=due)

    def _child_identity(self, what: str, seq: int) -> str:
        parts = (what, self._item.instance, self._item.generation, self._state.origin(seq))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def _child_generation(self, seq: int) -> str:
        # Derived, so that a terminate reaches the very child that was started, without a note of it.
        return self._child_identity("generation", seq)

    def _schedule_activity(self, decision: d.ScheduleActivity) -> None:
        origin = self._state.origin(self._state.next_seq)
        stored = self._append(record(decision, self.at))
        self._activities.append(NewActivity(id=origin, name=decision.name, payload=stored))
        if decision.name not in self._registry.activities:
            logger.warning(
                "instance %r calls activity %r, which this worker doesn't register; it waits until some worker does",
                self._item.instance,
                decision.name,
            )

    def _create_timer(self, decision: d.CreateTimer) -> None:
        origin = self._state.origin(self._state.next_seq)
        self._append(record(decision, self.at))
        fired = h.TimerFired(timestamp=decision.fire_at, timer_id=decision.id, fire_at=decision.fire_at)
        # A due of 0 would mean "in order of arrival"; 1 is as long ago and is a timer's.
        self._messages.append(self._to_self(origin, h.encode_event(fired), due=max(1, decision.fire_at)))

    def _start_child(self, decision: d.StartSubOrchestration) -> None:
        item, state = self._item, self._state
        seq = state.next_seq
        origin = state.origin(seq)
        child_id = decision.instance_id or self._child_identity("id", seq)
        self._append(record(replace(decision, instance_id=child_id), self.at))
        assert state.started is not None
        parent = h.ParentInstance(
            instance_id=item.instance,
            generation=item.generation,
            execution_id=state.started.execution_id,
            name=item.name,
            version=item.version,
            task_id=decision.id,
            seq=seq,
        )
        start = start_event(
            at=self.at,
            name=decision.name,
            instance_id=child_id,
            input=decision.input,
            version=decision.version,
            parent=parent,
            tags=decision.tags,
            trace_context=state.started.trace_context,
        )
        taken = h.SubOrchestrationFailed(
            timestamp=self.at,
            task_scheduled_id=decision.id,
            failure=FailureDetails.from_exception(InstanceAlreadyExists(child_id)),
        )
        self._starts.append(
            NewInstance(
                id=child_id,
                name=decision.name,
                start=h.encode_event(start),
                generation=self._child_generation(seq),
                input=decision.input,
                version=decision.version,
                parent=item.instance,
                tags=decision.tags or {},
                replace_if=_RETRY_REPLACES if decision.retry else frozenset(),
                on_conflict=self._to_self(origin, h.encode_event(taken)),
            )
        )

    def _send_event(self, decision: d.SendEvent) -> None:
        origin = self._state.origin(self._state.next_seq)
        self._append(record(decision, self.at))
        raised = h.EventRaised(timestamp=self.at, name=decision.name, input=decision.input)
        self._messages.append(Message(id=origin, instance=decision.instance_id, payload=h.encode_event(raised)))

    def _cancel_task(self, decision: d.CancelTask) -> None:
        task = self._state.open.get(decision.id)
        self._append(record(decision, self.at))
        if task is None:
            return
        if task.kind == "activity":
            self._cancel_activities.append(self._state.origin(task.seq))
        elif task.kind == "timer":
            self._cancel_messages.append(self._state.origin(task.seq))
        elif task.instance_id is not None:
            generation = self._child_generation(task.seq)
            others = [start for start in self._starts if start.generation != generation]
            if len(others) < len(self._starts):
                # Started in this very turn. A commit sends messages before it starts children, so that a
                # termination would find nobody.
                self._starts = others
            else:
                self._terminate(d.TerminateInstance(instance_id=task.instance_id, generation=generation))

    def _terminate(self, decision: d.TerminateInstance) -> None:
        terminated = h.ExecutionTerminated(timestamp=self.at, output=decision.output, recurse=decision.recurse)
        self._messages.append(
            Message(
                id=uuid.uuid4().hex,
                instance=decision.instance_id,
                generation=decision.generation,
                payload=h.encode_event(terminated),
                control=True,
            )
        )

    def _complete(self, decision: d.CompleteOrchestration) -> None:
        self._completion = decision
        self._append(record(decision, self.at))
        parent = self._state.started.parent if self._state.started is not None else None
        if parent is None:
            return
        answer: h.Event
        if decision.status is OrchestrationStatus.COMPLETED:
            answer = h.SubOrchestrationCompleted(
                timestamp=self.at, task_scheduled_id=parent.task_id, result=decision.result
            )
        else:
            failure = decision.failure or FailureDetails(
                error_type="perdure.OrchestrationTerminated", message=f"instance {self._item.instance!r} was terminated"
            )
            answer = h.SubOrchestrationFailed(timestamp=self.at, task_scheduled_id=parent.task_id, failure=failure)
        self._messages.append(
            Message(
                id=f"{parent.execution_id}:{parent.seq}",
                instance=parent.instance_id,
                generation=parent.generation,
                payload=h.encode_event(answer),
            )
        )

    def _continue(self, decision: d.ContinueOrchestration) -> None:
        state, old = self._state, self._state.started
        assert old is not None
        self._cancel_messages += [state.origin(task.seq) for task in state.open.values() if task.kind == "timer"]
        self._append(record(decision, self.at))
        version = old.version if decision.version is None else decision.version
        started = start_event(
            at=self.at,
            name=old.name,
            instance_id=old.instance_id,
            input=decision.input,
            version=version,
            parent=old.parent,
            tags=old.tags,
            continued_from=old.execution_id,
            trace_context=old.trace_context,
        )
        opening = [h.encode_event(h.OrchestratorStarted(timestamp=self.at)), h.encode_event(started)]
        self._continued = NextExecution(events=[*opening, *decision.carried], input=decision.input, version=version)
        self._messages.append(self._to_self(f"{started.execution_id}:start", b""))


_CONCLUDERS: Final[dict[type, Callable[[_Draft, Any], None]]] = {
    d.ScheduleActivity: _Draft._schedule_activity,
    d.CreateTimer: _Draft._create_timer,
    d.StartSubOrchestration: _Draft._start_child,
    d.SendEvent: _Draft._send_event,
    d.CancelTask: _Draft._cancel_task,
    d.TerminateInstance: _Draft._terminate,
    d.CompleteOrchestration: _Draft._complete,
    d.ContinueOrchestration: _Draft._continue,
}
