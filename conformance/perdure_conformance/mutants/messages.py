"""Mistakes that the cases of messages find out."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import perdure_memory
from perdure.spi import (
    START_MESSAGE_ID,
    ActivityDone,
    Delivery,
    Limits,
    Message,
    Millis,
    NewInstance,
    NotFound,
    Outcome,
    PumpResult,
    TurnCommit,
)
from perdure.spi.checks import requests
from perdure_conformance.mutant import mutant
from perdure_conformance.mutants.schemas import change_effect, change_schema, change_statement
from perdure_memory import activities, hub, instances, messages, turns
from perdure_memory.inbox import Inbox, PendingMessage
from perdure_memory.state import HubState, Instance
from perdure_sql import activities as sql_activities
from perdure_sql import commits, effects, purge
from perdure_sql import hub as sql_hub
from perdure_sql import messages as sql_messages
from perdure_sql.rows import Header, InstanceRow
from perdure_sql.work import Work
from perdure_sqlite import SQLiteProvider, transaction


@mutant("9", "MSG-07", "MSG-08", source="`DELETE WHERE instance = ?`")
def commit_deletes_every_message(patch: pytest.MonkeyPatch) -> None:
    """A commit deletes every message of its instance, also those that it was never shown."""

    def consume(state: HubState, instance: Instance, commit: TurnCommit, until: Millis) -> None:
        del state, commit, until
        instance.inbox.clear()

    patch.setattr(turns, "_consume", consume)


@mutant("10", "MSG-08", source="messages tagged with the token of the claim")
def commit_consumes_all_that_was_delivered(patch: pytest.MonkeyPatch) -> None:
    """A commit consumes all that was delivered under its lease, whatever it names."""
    consume = turns._consume

    def consume_all(state: HubState, instance: Instance, commit: TurnCommit, until: Millis) -> None:
        delivered = list(instance.inbox._delivered)
        consume(state, instance, replace(commit, consumed=delivered), until)

    patch.setattr(turns, "_consume", consume_all)


@mutant("42", "MSG-03", "MSG-04", "MSG-20", source="durabletask-go on Postgres: RETURNING keeps no order")
def messages_come_unordered(patch: pytest.MonkeyPatch) -> None:
    """A claim delivers the messages in an order that has to do with neither time nor arrival."""
    deliver = Inbox.deliver

    def unordered(*args: Any, **options: Any) -> list[PendingMessage]:
        return sorted(deliver(*args, **options), key=lambda message: zlib.crc32(message.id.encode()))

    patch.setattr(Inbox, "deliver", unordered)


@mutant("43", "MSG-05", source="no unique key", base="sqlite")
def pending_ids_are_sent_again(patch: pytest.MonkeyPatch) -> None:
    """A message is taken although one of its id is pending: nobody looks, and no unique key stops it."""
    change_schema(patch, "CREATE UNIQUE INDEX perdure_inbox_id", "CREATE INDEX perdure_inbox_id")
    for module in (sql_messages, commits, sql_activities):
        patch.setattr(module, "load_targets", lambda *_: None)


def _without_check(patch: pytest.MonkeyPatch, ignored: Outcome) -> None:
    refusal = messages._refusal

    def refuse_less(state: HubState, message: Message, now: Millis) -> Outcome | None:
        found = refusal(state, message, now)
        return None if found is ignored else found

    patch.setattr(messages, "_refusal", refuse_less)


@mutant("50", "MSG-02", "MSG-19", "LIF-11", source="a send that looks for the instance only")
def ended_instances_take_messages(patch: pytest.MonkeyPatch) -> None:
    """An instance that has ended takes messages, which nobody will ever handle."""
    _without_check(patch, Outcome.TERMINAL)
    patch.setattr(messages, "_reopen", lambda *_: None)


@mutant("54", "MSG-02", "MSG-12", source="durabletask-python")
def generations_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """A message reaches whoever has the id now, whatever generation it was meant for."""
    refusal = messages._refusal
    patch.setattr(
        messages,
        "_refusal",
        lambda state, message, now: refusal(state, replace(message, generation=None), now),
    )


@mutant("260", "MSG-01", source="one column for two times")
def enqueued_at_is_the_due(patch: pytest.MonkeyPatch) -> None:
    """A delivery says of a timer that it was enqueued when it came due."""
    deliver = PendingMessage.delivery
    patch.setattr(PendingMessage, "delivery", lambda message: replace(deliver(message), enqueued_at=message.due))


@mutant("260b", "MSG-01", source="`max(due, now)` for every message")
def past_dues_are_made_now(patch: pytest.MonkeyPatch) -> None:
    """A message with a due time that is past is stored as one for now."""
    stored = Inbox.stored_due
    patch.setattr(Inbox, "stored_due", lambda inbox, due, now: due if due > now else stored(inbox, 0, now))


@mutant("261", "MSG-02", source="one statement an instance")
def outcomes_of_sends_are_grouped(patch: pytest.MonkeyPatch) -> None:
    """Messages are sent instance by instance, and the outcomes come in that order."""
    send = messages.send_messages

    def grouped(state: HubState, sent: Sequence[Message], now: Millis, limits: Limits) -> list[Outcome]:
        return send(state, sorted(sent, key=lambda message: message.instance), now, limits)

    patch.setattr(hub, "send_messages", grouped)


@mutant("262", "MSG-19", source="checks in another order")
def ended_is_told_before_another_generation(patch: pytest.MonkeyPatch) -> None:
    """A message to another generation of an ended instance is TERMINAL."""
    refusal = messages._refusal

    def refuse(state: HubState, message: Message, now: Millis) -> Outcome | None:
        instance = state.instances.get(message.instance)
        if instance is not None and instance.status.is_terminal and instance.status not in message.reopen:
            return Outcome.TERMINAL
        return refusal(state, message, now)

    patch.setattr(messages, "_refusal", refuse)


@mutant("262b", "MSG-19", source="a unique key violation, seen first")
def duplicate_is_told_before_ended(patch: pytest.MonkeyPatch) -> None:
    """A message whose id an ended instance remembers is DUPLICATE."""
    refusal = messages._refusal

    def refuse(state: HubState, message: Message, now: Millis) -> Outcome | None:
        found = refusal(state, message, now)
        if found is Outcome.TERMINAL and state.instances[message.instance].inbox.knows(message.id, now):
            return Outcome.DUPLICATE
        return found

    patch.setattr(messages, "_refusal", refuse)


@mutant("263", "MSG-03", "MSG-04", source="`ORDER BY due, id`", base="sqlite")
def messages_are_ordered_by_id(patch: pytest.MonkeyPatch) -> None:
    """Messages that are due together are delivered in the order of their ids."""
    for name in ("MESSAGES", "FRONT"):
        statement = getattr(transaction, name)
        head, order, tail = statement.partition("ORDER BY")
        patch.setattr(transaction, name, head + order + tail.replace("perdure_inbox.seq", "perdure_inbox.id"))


@mutant("264", "MSG-13", source="messages inserted with the due of the lease")
def own_messages_come_in_front(patch: pytest.MonkeyPatch) -> None:
    """What a commit sends is put in front of what is pending."""
    deliver = messages.deliver

    def deliver_first(state: HubState, message: Message, now: Millis) -> Outcome:
        return deliver(state, replace(message, due=message.due or 1), now)

    patch.setattr(turns, "deliver", deliver_first)


@mutant("265", "MSG-21", source="`due = now()`")
def messages_for_now_follow_the_clock_back(patch: pytest.MonkeyPatch) -> None:
    """A message sent after the clock jumped back comes before what was sent earlier."""
    patch.setattr(Inbox, "stored_due", lambda _inbox, due, now: due or now)


@mutant("266", "MSG-20", source="locks taken in the order of keys")
def completions_are_done_by_key(patch: pytest.MonkeyPatch) -> None:
    """Completions of a batch deliver in the order of their keys."""
    complete = activities._complete_activity

    def by_key(state: HubState, done: Sequence[ActivityDone], now: Millis) -> list[Outcome]:
        order = sorted(range(len(done)), key=lambda place: int(done[place].lease.key))
        outcomes = {place: complete(state, done[place], now) for place in order}
        return [outcomes[place] for place in range(len(done))]

    patch.setattr(hub, "complete_activities", by_key)


@mutant("267", "MSG-05", source="an upsert")
def the_last_of_an_id_wins(patch: pytest.MonkeyPatch) -> None:
    """A message whose id is pending takes the place of that one."""
    add = Inbox.add

    def overwrite(inbox: Inbox, message: PendingMessage) -> None:
        inbox.remove(message.id)
        add(inbox, message)

    patch.setattr(Inbox, "knows", lambda inbox, id_, now: now < inbox._remembered.get(id_, 0))
    patch.setattr(Inbox, "add", overwrite)


@mutant("268", "MSG-06", source="a unique key over (hub, id)")
def message_ids_are_unique_in_a_hub(patch: pytest.MonkeyPatch) -> None:
    """A message is a duplicate of one that is pending for another instance."""
    refusal = messages._refusal

    def refuse(state: HubState, message: Message, now: Millis) -> Outcome | None:
        found = refusal(state, message, now)
        pending = any(message.id in instance.inbox._by_id for instance in state.instances.values())
        return Outcome.DUPLICATE if found is None and pending else found

    patch.setattr(messages, "_refusal", refuse)


@mutant("268b", "MSG-06", source="a memory of ids without the instance")
def consumed_ids_are_remembered_for_the_hub(patch: pytest.MonkeyPatch) -> None:
    """A message is a duplicate of one that another instance consumed."""
    refusal = messages._refusal

    def refuse(state: HubState, message: Message, now: Millis) -> Outcome | None:
        found = refusal(state, message, now)
        known = any(now < instance.inbox._remembered.get(message.id, 0) for instance in state.instances.values())
        return Outcome.DUPLICATE if found is None and known else found

    patch.setattr(messages, "_refusal", refuse)


@mutant("269", "MSG-07", source="a ready flag cleared by the commit")
def commit_takes_the_instance_off_the_agenda(patch: pytest.MonkeyPatch) -> None:
    """After a commit an instance is claimable when the next message comes, and not for those that wait."""
    leave = turns._leave

    def leave_and_forget(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        leave(state, instance, commit, now)
        state.turns.discard(instance.number)

    patch.setattr(turns, "_leave", leave_and_forget)


@mutant("270", "MSG-08", source="`DELETE WHERE seq <= ?`")
def consuming_takes_all_up_to_the_last(patch: pytest.MonkeyPatch) -> None:
    """Consuming a message consumes those before it."""
    consume = turns._consume

    def consume_prefix(state: HubState, instance: Instance, commit: TurnCommit, until: Millis) -> None:
        inbox = instance.inbox
        order = [inbox._by_place[place].id for place in inbox._order]
        last = max((order.index(id_) for id_ in commit.consumed if id_ in inbox._delivered), default=-1)
        consume(state, instance, replace(commit, consumed=order[: last + 1]), until)

    patch.setattr(turns, "_consume", consume_prefix)


@mutant("271", "MSG-18", source="an inbox that is read empty and written back")
def what_was_not_consumed_goes_to_the_back(patch: pytest.MonkeyPatch) -> None:
    """What was delivered and not consumed comes again behind what arrived meanwhile."""
    consume = turns._consume

    def put_back(state: HubState, instance: Instance, commit: TurnCommit, until: Millis) -> None:
        consume(state, instance, commit, until)
        inbox = instance.inbox
        rest = [inbox._by_place[place] for place in inbox._order if inbox._by_place[place].id in inbox._delivered]
        for message in rest:
            inbox.remove(message.id)
            inbox.add(replace(message, number=next(state.numbers)))

    patch.setattr(turns, "_consume", put_back)


@mutant("272", "MSG-09", source="the start comes from another table")
def the_start_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    """A claim with `max_messages` returns one more where one of them is the start."""
    deliver = Inbox.deliver

    def one_more(inbox: Inbox, now: Millis, at_most: int, token: str, *, only_control: bool) -> list[PendingMessage]:
        more = at_most + (START_MESSAGE_ID in inbox._by_id)
        return deliver(inbox, now, more, token, only_control=only_control)

    patch.setattr(Inbox, "deliver", one_more)


@mutant("272b", "MSG-09", source="`ORDER BY due DESC LIMIT ?`")
def a_cut_keeps_the_last(patch: pytest.MonkeyPatch) -> None:
    """A claim with `max_messages` returns the latest messages."""
    deliver = Inbox.deliver

    def latest(inbox: Inbox, now: Millis, at_most: int, token: str, *, only_control: bool) -> list[PendingMessage]:
        found = deliver(inbox, now, 1_000_000, token, only_control=only_control)[-at_most:]
        inbox._delivered = {message.id for message in found}
        return found

    patch.setattr(Inbox, "deliver", latest)


@mutant("272c", "MSG-09", source="what was seen is told by arrival alone", base="sqlite")
def what_was_cut_off_counts_as_delivered(patch: pytest.MonkeyPatch) -> None:
    """A commit may consume messages that `max_messages` kept from its claim."""

    def was_seen(row: InstanceRow, header: Header) -> bool:
        return header.seq < row.seen_arrivals

    patch.setattr(commits, "_was_seen", was_seen)


@mutant("273", "MSG-10", "MSG-22", source="`DELETE WHERE instance = ? AND id IN (...)`")
def consuming_takes_any_pending_message(patch: pytest.MonkeyPatch) -> None:
    """A commit consumes what has the id, whether or not it was delivered."""

    def consume(inbox: Inbox, message_id: str, token: str, remember_until: Millis) -> bool:
        del token
        message = inbox._by_id.get(message_id)
        if message is None:
            return False
        inbox.remove(message_id)
        if message.from_client:
            inbox._remembered[message_id] = remember_until
        return message.from_client

    patch.setattr(Inbox, "consume", consume)


@mutant("273b", "MSG-10", source="what was seen is told by its place alone", base="sqlite")
def what_came_in_front_counts_as_delivered(patch: pytest.MonkeyPatch) -> None:
    """A commit may consume what arrived under its lease and belongs in front of what was delivered."""

    def was_seen(row: InstanceRow, header: Header) -> bool:
        return (header.due, header.seq) <= (row.seen_due, row.seen_seq)

    patch.setattr(commits, "_was_seen", was_seen)


@mutant("274", "MSG-22", source="delivered ids in a set")
def a_later_message_of_a_delivered_id_is_consumed(patch: pytest.MonkeyPatch) -> None:
    """A message that came in the place of a delivered one of its id is consumed with that."""
    remove, consume = Inbox.remove, Inbox.consume

    def remove_only(inbox: Inbox, message_id: str) -> None:
        delivered = set(inbox._delivered)
        remove(inbox, message_id)
        inbox._delivered |= delivered

    def consume_pending(inbox: Inbox, message_id: str, token: str, until: Millis) -> bool:
        return message_id in inbox._by_id and consume(inbox, message_id, token, until)

    patch.setattr(Inbox, "remove", remove_only)
    patch.setattr(Inbox, "consume", consume_pending)


@mutant("275", "MSG-11", source="cancels applied before the inserts")
def cancelling_comes_before_sending(patch: pytest.MonkeyPatch) -> None:
    """A commit cancels before it sends, so that its own messages stay."""
    send = turns._send

    def cancel_first(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        for message_id in commit.cancel_messages:
            instance.inbox.remove(message_id)
        send(state, instance, replace(commit, cancel_messages=()), now)

    patch.setattr(turns, "_send", cancel_first)


@mutant("275b", "MSG-11", "MSG-06", source="`DELETE WHERE id = ?`")
def cancelling_reaches_other_instances(patch: pytest.MonkeyPatch) -> None:
    """`cancel_messages` takes messages of that id from every instance."""
    send = turns._send

    def cancel_all(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        send(state, instance, commit, now)
        for other in state.instances.values():
            for message_id in commit.cancel_messages:
                other.inbox.remove(message_id)
            state.reschedule(other)

    patch.setattr(turns, "_send", cancel_all)


@mutant("275c", "MSG-11", source="one function for consuming and cancelling", base="sqlite")
def cancelled_ids_are_remembered(patch: pytest.MonkeyPatch) -> None:
    """The id of a cancelled message can't be sent anew, as if it had been consumed."""
    send = commits._send

    def cancel_and_remember(work: Work, row: InstanceRow, commit: TurnCommit) -> None:
        for message_id in commit.cancel_messages:
            if (row.key, message_id) in work.headers:
                work.remember(row, message_id)
        send(work, row, commit)

    patch.setattr(commits, "_send", cancel_and_remember)


@mutant("275d", "MSG-11", "MSG-18", source="`WHERE due <= now`")
def timers_are_not_cancelled(patch: pytest.MonkeyPatch) -> None:
    """`cancel_messages` takes only what is due."""
    send = turns._send

    def cancel_due(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        send(state, instance, replace(commit, cancel_messages=()), now)
        for message_id in commit.cancel_messages:
            message = instance.inbox._by_id.get(message_id)
            if message is not None and message.due <= now:
                instance.inbox.remove(message_id)

    patch.setattr(turns, "_send", cancel_due)


@mutant("276", "MSG-13", source="messages to other instances only")
def messages_to_itself_are_dropped(patch: pytest.MonkeyPatch) -> None:
    """A commit's messages to its own instance are dropped."""
    send = turns._send

    def send_to_others(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        others = [message for message in commit.messages if message.instance != instance.id]
        send(state, instance, replace(commit, messages=others), now)

    patch.setattr(turns, "_send", send_to_others)


@mutant("277", "MSG-14", source="messages before starts")
def children_are_told_before_they_start(patch: pytest.MonkeyPatch) -> None:
    """A commit sends its messages before it starts children, who don't get theirs."""
    send = turns._send

    def messages_first(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        send(state, instance, replace(commit, starts=(), cancel_messages=()), now)
        send(state, instance, replace(commit, messages=()), now)

    patch.setattr(turns, "_send", messages_first)


@mutant("278", "MSG-14", "MSG-25", source="an outbox sent before the commit is looked at")
def a_repeated_commit_sends_again(patch: pytest.MonkeyPatch) -> None:
    """A repeated commit is ALREADY, but its messages are sent once more."""
    commit_turn = turns._commit_turn

    def send_again(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        outcome = commit_turn(state, commit, now, limits)
        if outcome is Outcome.ALREADY:
            for message in commit.messages:
                messages.deliver(state, message, now)
        return outcome

    patch.setattr(turns, "_commit_turn", send_again)


@mutant("278b", "MSG-25", source="a completion that only sends")
def a_repeated_completion_sends_again(patch: pytest.MonkeyPatch) -> None:
    """A repeated completion is LOST, but its message is delivered once more."""
    complete = activities._complete_activity

    def send_again(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        outcome = complete(state, done, now)
        if outcome is Outcome.LOST and done.message is not None:
            messages.deliver(state, done.message, now)
        return outcome

    patch.setattr(activities, "_complete_activity", send_again)


@mutant("279", "MSG-23", source="a foreign key")
def an_undeliverable_message_fails_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A commit with a message to an instance that is not there raises."""
    deliver = messages.deliver

    def deliver_or_raise(state: HubState, message: Message, now: Millis) -> Outcome:
        if message.instance not in state.instances:
            raise NotFound(f"there is no instance {message.instance!r}")
        return deliver(state, message, now)

    patch.setattr(turns, "deliver", deliver_or_raise)


@mutant("279b", "MSG-23", source="the outcome of the send returned for that of the completion")
def an_undeliverable_result_keeps_the_activity(patch: pytest.MonkeyPatch) -> None:
    """Completing an activity whose message nobody can take is LOST, and the activity stays."""
    complete = activities._complete_activity

    def deliver_or_lose(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        if done.message is not None and messages._refusal(state, done.message, now) is not None:
            return Outcome.LOST
        return complete(state, done, now)

    patch.setattr(activities, "_complete_activity", deliver_or_lose)


@mutant("279c", "MSG-23", source="messages parked for who is not there yet")
def an_undeliverable_message_waits_for_its_target(patch: pytest.MonkeyPatch) -> None:
    """A message to an instance that is not there is kept, and delivered to who is created later."""
    deliver, add = messages.deliver, HubState.add_instance
    parked: list[tuple[HubState, Message]] = []

    def deliver_or_park(state: HubState, message: Message, now: Millis, **options: Any) -> Outcome:
        outcome = deliver(state, message, now, **options)
        if outcome is Outcome.NOT_FOUND and message.generation is None:
            parked.append((state, message))
        return outcome

    def add_with_parked(state: HubState, instance: Instance) -> None:
        add(state, instance)
        for owner, message in parked:
            if owner is state and message.instance == instance.id:
                deliver(state, message, instance.created_at)

    for module in (turns, activities):
        patch.setattr(module, "deliver", deliver_or_park)
    patch.setattr(HubState, "add_instance", add_with_parked)


def _change_memory(patch: pytest.MonkeyPatch, change: Callable[[Millis, TurnCommit], Millis]) -> None:
    consume = turns._consume

    def consume_and_remember(state: HubState, instance: Instance, commit: TurnCommit, until: Millis) -> None:
        consume(state, instance, commit, change(until, commit))

    patch.setattr(turns, "_consume", consume_and_remember)


@mutant("280", "MSG-15", source="no memory of what is gone")
def consumed_ids_are_not_remembered(patch: pytest.MonkeyPatch) -> None:
    """A client's message is taken again as soon as it was consumed."""
    _change_memory(patch, lambda _until, _commit: 0)


@mutant("280b", "MSG-15", source="the window begins at the send")
def consumed_ids_are_remembered_from_the_send(patch: pytest.MonkeyPatch) -> None:
    """The id of a consumed message is remembered for `dedupe_ms` from when it was sent."""
    consume = Inbox.consume

    def consume_earlier(inbox: Inbox, message_id: str, token: str, until: Millis) -> bool:
        message = inbox._by_id.get(message_id)
        sent_at = 0 if message is None else message.enqueued_at
        return consume(inbox, message_id, token, min(until, sent_at + Limits().dedupe_ms))

    patch.setattr(Inbox, "consume", consume_earlier)


@mutant("280g", "MSG-15", source="a memory of what was sent for now", base="sqlite")
def timers_are_not_remembered(patch: pytest.MonkeyPatch) -> None:
    """The id of a consumed message is remembered only if it was sent for now."""
    add = Work.add_message

    def add_for_now(work: Work, row: InstanceRow, id_: str, payload: bytes, due: Millis, **kinds: bool) -> None:
        add(work, row, id_, payload, due, **kinds | {"client": kinds["client"] and due == 0})

    patch.setattr(Work, "add_message", add_for_now)


@mutant("280c", "MSG-15", source="`ON CONFLICT DO NOTHING`", base="sqlite")
def the_first_memory_of_an_id_stays(patch: pytest.MonkeyPatch) -> None:
    """An id that was remembered once keeps that time, though its message was sent and consumed anew."""
    change_effect(patch, effects.REMEMBER, "OR REPLACE", "OR IGNORE")


@mutant("280d", "MSG-15", source="a memory that only the sweep ends", base="sqlite")
def consumed_ids_are_known_until_swept(patch: pytest.MonkeyPatch) -> None:
    """The id of a consumed message is refused until `pump` has swept it."""
    change_statement(patch, transaction, "REMEMBERED", "until > ?", "until > ? - 100000000")


@mutant("280e", "MSG-15", source="`DELETE` without `WHERE`")
def pump_forgets_all(patch: pytest.MonkeyPatch) -> None:
    """`pump` forgets ids whose time is not over."""
    sweep, forget = HubState.sweep, Inbox.forget
    patch.setattr(HubState, "sweep", lambda state, now: sweep(state, now + 10_000_000))
    patch.setattr(Inbox, "forget", lambda inbox, id_, now: forget(inbox, id_, now + 10_000_000))


@mutant("280f", "MSG-15", source="a memory that clients alone ask")
def commits_send_what_was_consumed(patch: pytest.MonkeyPatch) -> None:
    """A commit or completion delivers a message although its id was consumed not long ago."""
    deliver = messages.deliver

    def deliver_anyway(state: HubState, message: Message, now: Millis) -> Outcome:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Inbox, "knows", lambda inbox, id_, _now: id_ in inbox._by_id)
            return deliver(state, message, now)

    for module in (turns, activities):
        patch.setattr(module, "deliver", deliver_anyway)


@mutant("281", "MSG-24", source="an inbox of the execution")
def the_next_execution_remembers_nothing(patch: pytest.MonkeyPatch) -> None:
    """Continue-as-new forgets which messages were consumed."""
    leave = turns._leave

    def forget(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        leave(state, instance, commit, now)
        if commit.continued is not None:
            instance.inbox._remembered.clear()

    patch.setattr(turns, "_leave", forget)


@mutant("281b", "MSG-24", source="a memory by the instance's id")
def the_next_incarnation_remembers_the_last(patch: pytest.MonkeyPatch) -> None:
    """What a replaced or purged instance consumed is refused for the one that comes after it."""
    remove, add = HubState.remove_instance, HubState.add_instance
    kept: dict[tuple[int, str], dict[str, Millis]] = {}

    def keep(state: HubState, instance: Instance) -> None:
        kept[id(state), instance.id] = instance.inbox._remembered
        remove(state, instance)

    def restore(state: HubState, instance: Instance) -> None:
        add(state, instance)
        instance.inbox._remembered.update(kept.get((id(state), instance.id), {}))

    patch.setattr(HubState, "remove_instance", keep)
    patch.setattr(HubState, "add_instance", restore)


@mutant("282", "MSG-16", source="a map from target to message")
def a_batch_sends_one_message_to_each(patch: pytest.MonkeyPatch) -> None:
    """Of the messages that a batch of commits sends to one instance only one arrives."""
    commit_turns = turns.commit_turns

    def send_one_each(state: HubState, batch: Sequence[TurnCommit], now: Millis, limits: Limits) -> list[Outcome]:
        reached: set[str] = set()
        rest = []
        for commit in batch:
            sent = [message for message in commit.messages if message.instance not in reached]
            rest.append(replace(commit, messages=sent))
            reached.update(message.instance for message in sent)
        return commit_turns(state, rest, now, limits)

    patch.setattr(hub, "commit_turns", send_one_each)


@mutant("283", "MSG-17", source="`payload or None`")
def empty_payloads_are_none(patch: pytest.MonkeyPatch) -> None:
    """A message of no bytes is delivered as None."""
    deliver = PendingMessage.delivery
    empty: Any = None

    def none_if_empty(message: PendingMessage) -> Delivery:
        return replace(deliver(message), payload=message.payload or empty)

    patch.setattr(PendingMessage, "delivery", none_if_empty)


@mutant("284", "MSG-18", source="an inbox of the execution")
def the_next_execution_begins_with_an_empty_inbox(patch: pytest.MonkeyPatch) -> None:
    """Continue-as-new drops the messages that were not consumed."""
    set_state = turns._set_state

    def drop(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        set_state(state, instance, commit, now)
        if commit.continued is not None:
            instance.inbox.clear()

    patch.setattr(turns, "_set_state", drop)


@mutant("285", "MSG-26", source="no reserved id")
def anybody_can_send_a_start(patch: pytest.MonkeyPatch) -> None:
    """A message may have the id of the start."""
    patch.setattr(requests, "START_MESSAGE_ID", "@none")


def _small_inbox(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(perdure_memory.MemoryProvider, "limits", Limits(max_pending=300))


@mutant("286", "MSG-27", source="a limit that is only declared")
def max_pending_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    """An inbox takes more than the `max_pending` that the provider declares."""
    _small_inbox(patch)
    patch.setattr(messages, "_check_room", lambda *_: None)


@mutant("286b", "MSG-27", source="`<` for `<=`")
def max_pending_is_one_less(patch: pytest.MonkeyPatch) -> None:
    """An inbox refuses the last message of the `max_pending` that the provider declares."""
    _small_inbox(patch)
    check_room = messages._check_room

    def check_less(state: HubState, sent: Sequence[Message], now: Millis, limits: Limits) -> None:
        check_room(state, sent, now, replace(limits, max_pending=limits.max_pending - 1))

    patch.setattr(messages, "_check_room", check_less)


@mutant("286c", "MSG-27", source="one check for all senders")
def a_full_inbox_drops_what_commits_send(patch: pytest.MonkeyPatch) -> None:
    """A full inbox drops messages of commits and completions."""
    _small_inbox(patch)
    deliver = messages.deliver

    def deliver_if_room(state: HubState, message: Message, now: Millis) -> Outcome:
        target = state.instances.get(message.instance)
        if target is not None and len(target.inbox) >= 300:
            return Outcome.DUPLICATE
        return deliver(state, message, now)

    for module in (turns, activities):
        patch.setattr(module, "deliver", deliver_if_room)


@mutant("286d", "MSG-27", source="a check message by message")
def a_full_inbox_takes_some_of_a_batch(patch: pytest.MonkeyPatch) -> None:
    """A batch that finds no room is sent as far as there is some, and then raises."""
    _small_inbox(patch)
    send = messages.send_messages

    def one_by_one(state: HubState, sent: Sequence[Message], now: Millis, limits: Limits) -> list[Outcome]:
        return [send(state, [message], now, limits)[0] for message in sent]

    patch.setattr(hub, "send_messages", one_by_one)


@mutant("287", "MSG-28", source="only the instance's row is closed", base="sqlite")
def an_end_leaves_the_inbox(patch: pytest.MonkeyPatch) -> None:
    """Messages that waited when an instance ended are delivered once it is reopened."""

    def wipe(work: Work, row: InstanceRow) -> None:
        row.start_due = row.inbox_due = row.control_due = None
        work.cancel_activities(row)

    patch.setattr(Work, "wipe", wipe)


@mutant("288", "MSG-29", source="the sweep of our own SQLite provider", base="sqlite")
def pump_sweeps_every_hub(patch: pytest.MonkeyPatch) -> None:
    """`pump` forgets ids of all hubs by the clock of one."""
    patch.setattr(
        transaction,
        "FORGETTABLE",
        "SELECT instance, id FROM perdure_remembered WHERE ? AND until <= ? ORDER BY until LIMIT ?",
    )


@mutant("288d", "MSG-30", source="a memory that ends by itself, but not in store")
def remembered_ids_pile_up(patch: pytest.MonkeyPatch) -> None:
    """`pump` leaves the ids whose time is over where they are."""
    patch.setattr(Inbox, "forget", lambda *_: None)


@mutant("288b", "MSG-30", source="a sweep nobody wrote", base="sqlite")
def pump_sweeps_nothing(patch: pytest.MonkeyPatch) -> None:
    """Remembered ids stay in their table for ever."""
    patch.setattr(sql_hub, "sweep", lambda _transact, _budget_ms: PumpResult())


@mutant("288c", "MSG-30", source="a limited delete without a loop", base="sqlite")
def pump_sweeps_one_portion(patch: pytest.MonkeyPatch) -> None:
    """`pump` sweeps some of the ids whose time is over and says that there are no more."""

    def sweep(transact: Callable[[Callable[[Work], int]], int], budget_ms: int) -> PumpResult:
        del budget_ms
        return PumpResult(done=transact(purge._sweep_portion))

    patch.setattr(sql_hub, "sweep", sweep)


@mutant("289", "MSG-31", source="a cache for a table", base="sqlite")
def consumed_ids_are_kept_by_the_process(patch: pytest.MonkeyPatch) -> None:
    """Which messages were consumed is remembered until the store is closed."""
    load, close = Work.load_messages, SQLiteProvider.close
    cache: dict[tuple[int, str], Millis] = {}

    def remember(work: Work, row: InstanceRow, id_: str) -> None:
        cache[row.key, id_] = work.now + work.limits.dedupe_ms
        work.known.add((row.key, id_))

    def load_from_cache(work: Work, pairs: Any, fresh: Any = ()) -> None:
        load(work, pairs, fresh)
        work.known.update(pair for pair, until in cache.items() if until > work.now)

    def close_and_forget(provider: SQLiteProvider) -> None:
        close(provider)
        cache.clear()

    patch.setattr(Work, "remember", remember)
    patch.setattr(Work, "load_messages", load_from_cache)
    patch.setattr(SQLiteProvider, "close", close_and_forget)


@mutant("290", "MSG-32", source="one delete for the batch")
def a_batch_consumes_together(patch: pytest.MonkeyPatch) -> None:
    """What one commit of a batch consumes is consumed from the other instances too."""
    commit_turns = turns.commit_turns

    def together(state: HubState, batch: Sequence[TurnCommit], now: Millis, limits: Limits) -> list[Outcome]:
        consumed = [id_ for commit in batch for id_ in commit.consumed]
        return commit_turns(state, [replace(commit, consumed=consumed) for commit in batch], now, limits)

    patch.setattr(hub, "commit_turns", together)


@mutant("290b", "MSG-32", source="consumed first, fenced later")
def a_stale_commit_consumes(patch: pytest.MonkeyPatch) -> None:
    """A commit that is LOST consumes its messages."""
    commit_turn = turns._commit_turn

    def consume_first(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        outcome = commit_turn(state, commit, now, limits)
        instance = state.instances.get(commit.lease.key)
        if outcome is Outcome.LOST and instance is not None:
            for message_id in commit.consumed:
                instance.inbox.remove(message_id)
            state.reschedule(instance)
        return outcome

    patch.setattr(turns, "_commit_turn", consume_first)


@mutant("290c", "MSG-02", source="a start that is written by the next claim")
def pending_instances_take_no_messages(patch: pytest.MonkeyPatch) -> None:
    """A message to an instance that nobody has claimed yet is NOT_FOUND."""
    refusal = messages._refusal

    def refuse(state: HubState, message: Message, now: Millis) -> Outcome | None:
        instance = state.instances.get(message.instance)
        if instance is not None and instance.last_commit_id is None:
            return Outcome.NOT_FOUND
        return refusal(state, message, now)

    patch.setattr(messages, "_refusal", refuse)


@mutant("290d", "MSG-12", source="an inbox by the instance's id")
def a_new_incarnation_inherits_the_inbox(patch: pytest.MonkeyPatch) -> None:
    """Messages that wait for a purged instance are delivered to the next one of its id."""
    remove, create = HubState.remove_instance, instances.create_instance
    left: dict[tuple[int, str], list[PendingMessage]] = {}

    def leave(state: HubState, instance: Instance) -> None:
        found = instance.inbox._by_id.values()
        left[id(state), instance.id] = [message for message in found if message.id != START_MESSAGE_ID]
        remove(state, instance)

    def inherit(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        outcome = create(state, new, now, settled)
        for message in left.pop((id(state), new.id), []):
            state.instances[new.id].inbox.add(message)
        return outcome

    patch.setattr(HubState, "remove_instance", leave)
    for module in (instances, turns):
        patch.setattr(module, "create_instance", inherit)


@mutant("510", "MSG-21", source="`max(due)` over the inbox")
def the_order_forgets_what_was_consumed(patch: pytest.MonkeyPatch) -> None:
    """A message sent for now is stored no earlier than those that are pending; those that are gone don't count."""
    stored_due = Inbox.stored_due

    def of_pending(self: Inbox, due: Millis, now: Millis) -> Millis:
        if not len(self):
            self._latest_due = 0
        return stored_due(self, due, now)

    patch.setattr(Inbox, "stored_due", of_pending)


@mutant("510b", "MSG-21", source="a fresh record for each execution")
def the_order_forgets_at_continue_as_new(patch: pytest.MonkeyPatch) -> None:
    """Continue-as-new forgets the latest time that a message was stored with."""
    set_state = turns._set_state

    def forget(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        set_state(state, instance, commit, now)
        if commit.continued is not None:
            instance.inbox._latest_due = 0

    patch.setattr(turns, "_set_state", forget)


@mutant("510c", "MSG-21", source="the end clears the inbox's record")
def the_order_forgets_at_the_end(patch: pytest.MonkeyPatch) -> None:
    """An end forgets the latest time that a message was stored with, though the instance may be reopened."""
    clear = Inbox.clear

    def forget(self: Inbox) -> None:
        clear(self)
        self._latest_due = 0

    patch.setattr(Inbox, "clear", forget)


@mutant("510d", "MSG-21", source="`max(due)` over all messages")
def the_order_counts_past_timers(patch: pytest.MonkeyPatch) -> None:
    """A message with a due time of its own that is past holds back those that are sent for now after it."""
    stored_due = Inbox.stored_due

    def counting(self: Inbox, due: Millis, now: Millis) -> Millis:
        if due <= now:
            self._latest_due = max(due, self._latest_due)
        return stored_due(self, due, now)

    patch.setattr(Inbox, "stored_due", counting)


@mutant("511", "MSG-15", source="a capped list of ids")
def only_the_latest_ids_are_remembered(patch: pytest.MonkeyPatch) -> None:
    """An instance remembers its latest hundred consumed ids."""
    consume = Inbox.consume

    def capped(self: Inbox, message_id: str, token: str, remember_until: Millis) -> bool:
        is_remembered = consume(self, message_id, token, remember_until)
        while len(self._remembered) > 100:
            del self._remembered[next(iter(self._remembered))]
        return is_remembered

    patch.setattr(Inbox, "consume", capped)


@mutant("512", "MSG-24", source="a path of its own for rewind")
def a_rewrite_remembers_nothing(patch: pytest.MonkeyPatch) -> None:
    """A commit that rewrites the history doesn't remember the ids that it consumes."""
    consume = turns._consume

    def forgetting(state: HubState, instance: Instance, commit: TurnCommit, until: Millis) -> None:
        consume(state, instance, commit, 0 if commit.rewrite else until)

    patch.setattr(turns, "_consume", forgetting)


@mutant("513", "MSG-11", source="`AND NOT control`")
def control_messages_are_not_cancelled(patch: pytest.MonkeyPatch) -> None:
    """`cancel_messages` spares control messages."""
    send = turns._send

    def sparing(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        others = [id_ for id_ in commit.cancel_messages if id_ not in instance.inbox._controls]
        send(state, instance, replace(commit, cancel_messages=others), now)

    patch.setattr(turns, "_send", sparing)


@mutant("514", "MSG-23", source="one way to deliver, with its memory")
def ids_from_commits_are_remembered(patch: pytest.MonkeyPatch) -> None:
    """What a commit or its `on_conflict` sent is remembered once consumed, and dropped when it is sent anew."""
    deliver = messages.deliver

    def as_client(state: HubState, message: Message, now: Millis) -> Outcome:
        return deliver(state, message, now, from_client=True)

    patch.setattr(turns, "deliver", as_client)


@mutant("515", "MSG-27", source="a count of what is due")
def timers_take_no_room(patch: pytest.MonkeyPatch) -> None:
    """Messages that are due later don't count towards `max_pending`."""
    _small_inbox(patch)
    check_room = messages._check_room

    def check_due(state: HubState, sent: Sequence[Message], now: Millis, limits: Limits) -> None:
        check_room(state, [message for message in sent if message.due <= now], now, limits)

    patch.setattr(messages, "_check_room", check_due)


@mutant("515b", "MSG-27", source="control messages always get through")
def control_messages_need_no_room(patch: pytest.MonkeyPatch) -> None:
    """A control message is taken by a full inbox."""
    _small_inbox(patch)
    check_room = messages._check_room

    def check_others(state: HubState, sent: Sequence[Message], now: Millis, limits: Limits) -> None:
        check_room(state, [message for message in sent if not message.control], now, limits)

    patch.setattr(messages, "_check_room", check_others)
