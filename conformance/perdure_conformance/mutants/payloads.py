"""Mistakes that the cases of payloads find out."""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import pytest

from perdure.spi import (
    UNSET,
    ClaimActivities,
    InstanceInfo,
    InvalidRequest,
    Limits,
    Message,
    Millis,
    NewActivity,
    NewInstance,
    Outcome,
    ThreeValued,
    TooLarge,
    TurnCommit,
    checks,
)
from perdure.spi.checks import requests, values
from perdure_conformance.mutant import mutant
from perdure_conformance.mutants.schemas import change_schema
from perdure_memory import activities, hub, instances, messages, queries, turns
from perdure_memory.inbox import Inbox, PendingMessage
from perdure_memory.ownership import Ownership
from perdure_memory.state import HubState, Instance
from perdure_sql import pack_events, work
from perdure_sql.rows import InstanceRow
from perdure_sql.work import Work

Change: TypeAlias = Callable[[bytes], bytes]


# What the SQLite provider writes into a table, changed on the way.


def _in_inbox(patch: pytest.MonkeyPatch, change: Change) -> None:
    add = Work.add_message

    def add_changed(work_: Work, row: InstanceRow, id_: str, payload: bytes, due: Millis, **options: bool) -> None:
        add(work_, row, id_, change(payload), due, **options)

    patch.setattr(Work, "add_message", add_changed)


def _in_inputs(patch: pytest.MonkeyPatch, change: Change) -> None:
    create = Work.create

    def create_changed(
        work_: Work,
        row: InstanceRow,
        *,
        start: bytes,
        input_: bytes | None,
        parent: str | None,
        tags: Mapping[str, str],
    ) -> None:
        changed = None if input_ is None else change(input_)
        create(work_, row, start=change(start), input_=changed, parent=parent, tags=tags)

    patch.setattr(Work, "create", create_changed)


def _in_states(patch: pytest.MonkeyPatch, change: Change) -> None:
    set_state = Work.set_state

    def set_changed(work_: Work, row: InstanceRow, field: str, value: ThreeValued) -> None:
        set_state(work_, row, field, value if value is UNSET or value is None else change(value))

    patch.setattr(Work, "set_state", set_changed)


def _in_history(patch: pytest.MonkeyPatch, change: Change) -> None:
    def pack(events: Sequence[bytes], first_seq: int) -> Iterator[tuple[int, int, bytes]]:
        return pack_events([change(event) for event in events], first_seq)

    patch.setattr(work, "pack_events", pack)


def _in_activities(patch: pytest.MonkeyPatch, change: Change) -> None:
    schedule = Work.schedule

    def schedule_changed(work_: Work, row: InstanceRow, new: NewActivity) -> None:
        schedule(work_, row, replace(new, payload=change(new.payload)))

    patch.setattr(Work, "schedule", schedule_changed)


def _as_text(payload: bytes) -> bytes:
    """Do what a TEXT column of Postgres does."""
    if b"\0" in payload:
        raise InvalidRequest("invalid byte sequence for encoding UTF8: 0x00")
    return payload.decode().encode()


def _as_jsonb(payload: bytes) -> bytes:
    """Do what a JSONB column does with what is JSON."""
    try:
        return json.dumps(json.loads(payload), sort_keys=True).encode()
    except ValueError:
        return payload


@mutant("70", "PAY-01", "PAY-02", source="a TEXT column on Postgres", base="sqlite")
def messages_are_text(patch: pytest.MonkeyPatch) -> None:
    """Payloads of messages are kept as text, which takes no NUL and nothing but UTF-8."""
    _in_inbox(patch, _as_text)


@mutant("301c", "PAY-01", "PAY-02", source="a TEXT column on Postgres", base="sqlite")
def events_are_text(patch: pytest.MonkeyPatch) -> None:
    """Events are kept as text, which takes no NUL and nothing but UTF-8."""
    _in_history(patch, _as_text)


@mutant("71", "PAY-07", "CST-13", source="a JSONB column on Postgres", base="sqlite")
def states_are_jsonb(patch: pytest.MonkeyPatch) -> None:
    """Custom status, output, failure and memo are kept as JSON data, and come back written anew."""
    _in_states(patch, _as_jsonb)


@mutant("301d", "PAY-07", source="a JSONB column on Postgres", base="sqlite")
def activities_are_jsonb(patch: pytest.MonkeyPatch) -> None:
    """Payloads of activities are kept as JSON data, and come back written anew."""
    _in_activities(patch, _as_jsonb)


@mutant("72", "PAY-04", source="a BLOB column on MySQL", base="sqlite")
def activities_are_cut_at_64_kib(patch: pytest.MonkeyPatch) -> None:
    """Payloads of activities are cut after 65,535 bytes."""
    _in_activities(patch, lambda payload: payload[:65_535])


@mutant("301e", "PAY-04", source="a buffer of a megabyte", base="sqlite")
def events_are_cut_at_a_megabyte(patch: pytest.MonkeyPatch) -> None:
    """Events are cut after a megabyte."""
    _in_history(patch, lambda payload: payload[: 1024 * 1024])


@mutant("301f", "PAY-04", source="a limit of the protocol", base="sqlite")
def inputs_are_cut_short_of_the_limit(patch: pytest.MonkeyPatch) -> None:
    """Inputs lose what is over 4 MiB, though the provider declares more."""
    _in_inputs(patch, lambda payload: payload[: 4 * 1024 * 1024])


@mutant("73", "PAY-14", source="psycopg's bytea, pymongo's Binary")
def payloads_are_views(patch: pytest.MonkeyPatch) -> None:
    """A message comes with a memoryview for its payload."""
    deliver = PendingMessage.delivery
    view: Any = memoryview
    patch.setattr(PendingMessage, "delivery", lambda message: replace(deliver(message), payload=view(message.payload)))


@mutant("301g", "PAY-14", source="bson.Binary, a subclass")
def payloads_are_of_a_subclass(patch: pytest.MonkeyPatch) -> None:
    """An output comes back as a subclass of bytes."""

    class Binary(bytes):
        """As pymongo has one."""

    info = queries.instance_info

    def wrapped(instance: Instance, fields: Any) -> InstanceInfo:
        found = info(instance, fields)
        return replace(found, output=None if found.output is None else Binary(found.output))

    for module in (queries, hub):
        patch.setattr(module, "instance_info", wrapped)


_ID_COLUMNS: Final = "\tid TEXT NOT NULL"


@mutant("69b", "PAY-11", "PAY-16", source="the usual collation of MySQL, citext", base="sqlite")
def ids_are_compared_without_case(patch: pytest.MonkeyPatch) -> None:
    """Ids that differ in case are equal."""
    change_schema(patch, _ID_COLUMNS, "\tid TEXT COLLATE NOCASE NOT NULL")


@mutant("304", "PAY-11", "PAY-16", source="PAD SPACE collations, CHAR columns", base="sqlite")
def ids_are_compared_without_trailing_spaces(patch: pytest.MonkeyPatch) -> None:
    """Ids that differ in spaces at their end are equal."""
    change_schema(patch, _ID_COLUMNS, "\tid TEXT COLLATE RTRIM NOT NULL")


def _change_ids(patch: pytest.MonkeyPatch, change: Callable[[str], str]) -> None:
    create = instances.create_instance

    def create_changed(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        return create(state, replace(new, id=change(new.id)), now, settled)

    for module in (instances, turns):
        patch.setattr(module, "create_instance", create_changed)


@mutant("304b", "PAY-11", source="a normal form on the way in")
def ids_are_normalised(patch: pytest.MonkeyPatch) -> None:
    """Ids are brought into a normal form, so that those of another are not found."""
    _change_ids(patch, lambda id_: unicodedata.normalize("NFC", id_))


@mutant("304c", "PAY-16", source="a collation on one column", base="sqlite")
def names_are_compared_without_case(patch: pytest.MonkeyPatch) -> None:
    """Names that differ in case are equal."""
    change_schema(patch, "\tname TEXT NOT NULL", "\tname TEXT COLLATE NOCASE NOT NULL")


@mutant("304d", "PAY-16", source="a collation on one column", base="sqlite")
def parents_are_compared_without_case(patch: pytest.MonkeyPatch) -> None:
    """The children of a parent are also those of one whose id differs in case."""
    change_schema(patch, "\tparent TEXT,", "\tparent TEXT COLLATE NOCASE,")


@mutant("304e", "PAY-16", source="a uuid column")
def generations_are_compared_without_case(patch: pytest.MonkeyPatch) -> None:
    """A message reaches a generation that differs in case from the one it names."""
    refusal = messages._refusal

    def refuse(state: HubState, message: Message, now: Millis) -> Outcome | None:
        instance = state.instances.get(message.instance)
        named = None if message.generation is None else message.generation.lower()
        if instance is not None and named == instance.generation.lower():
            message = replace(message, generation=None)
        return refusal(state, message, now)

    patch.setattr(messages, "_refusal", refuse)


@mutant("304f", "PAY-16", source="a uuid column")
def commit_ids_are_compared_without_case(patch: pytest.MonkeyPatch) -> None:
    """A commit is ALREADY where its id differs in case from the last one."""
    commit_turn = turns._commit_turn

    def compare_less(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        instance = state.instances.get(commit.lease.key)
        last = None if instance is None else instance.last_commit_id
        if last is not None and last.lower() == commit.commit_id.lower():
            return Outcome.ALREADY
        return commit_turn(state, commit, now, limits)

    patch.setattr(turns, "_commit_turn", compare_less)


@mutant("304g", "PAY-16", source="a collation on one column", base="sqlite")
def queues_are_compared_without_case(patch: pytest.MonkeyPatch) -> None:
    """A claim gets activities of queues that differ in case from those it asked for."""
    change_schema(patch, "\tqueue TEXT NOT NULL", "\tqueue TEXT COLLATE NOCASE NOT NULL")


@mutant("304h", "PAY-16", source="a strip() against user error")
def message_ids_are_trimmed(patch: pytest.MonkeyPatch) -> None:
    """Ids of messages lose the spaces around them."""
    deliver = messages.deliver

    def trim(state: HubState, message: Message, now: Millis, **options: Any) -> Outcome:
        return deliver(state, replace(message, id=message.id.strip()), now, **options)

    patch.setattr(messages, "deliver", trim)


@mutant("305", "PAY-10", source="VARCHAR(255)")
def ids_are_cut_at_255_characters(patch: pytest.MonkeyPatch) -> None:
    """Ids are cut after 255 characters."""
    _change_ids(patch, lambda id_: id_[:255])


@mutant("305b", "PAY-10", source="an index on a prefix", base="sqlite")
def message_ids_are_unique_by_prefix(patch: pytest.MonkeyPatch) -> None:
    """Messages whose ids begin with the same 200 characters can't both wait."""
    change_schema(
        patch,
        "perdure_inbox_id ON perdure_inbox (instance, id)",
        "perdure_inbox_id ON perdure_inbox (instance, substr(id, 1, 200))",
    )


@mutant("305c", "PAY-10", source="an index that takes 1,000 bytes of a key")
def long_ids_are_refused(patch: pytest.MonkeyPatch) -> None:
    """Ids of over 1,000 bytes are a BadId, though the provider declares more."""
    check = values.check_id

    def check_more(value: str, limits: Limits, what: str = "id") -> None:
        check(value, replace(limits, max_id_bytes=1000), what)

    patch.setattr(requests, "check_id", check_more)


@mutant("305d", "PAY-10", source="characters counted for bytes")
def ids_are_measured_in_characters(patch: pytest.MonkeyPatch) -> None:
    """Ids of `max_id_bytes` characters are taken, however many bytes they have."""
    check = values.check_id

    def check_less(value: str, limits: Limits, what: str = "id") -> None:
        if isinstance(value, str) and not value.isascii() and len(value) <= limits.max_id_bytes:
            value = value[:1]
        check(value, limits, what)

    patch.setattr(requests, "check_id", check_less)


@mutant("305e", "PAY-10", source="a statement put together from text", base="sqlite")
def quotes_in_activity_ids_are_doubled(patch: pytest.MonkeyPatch) -> None:
    """A quote in the id of an activity is stored twice."""
    schedule = Work.schedule

    def schedule_quoted(work_: Work, row: InstanceRow, new: NewActivity) -> None:
        schedule(work_, row, replace(new, id=new.id.replace("'", "''")))

    patch.setattr(Work, "schedule", schedule_quoted)


@mutant("305f", "PAY-10", source="control characters taken out")
def controls_in_ids_are_dropped(patch: pytest.MonkeyPatch) -> None:
    """Ids lose their control and format characters."""
    _change_ids(patch, lambda id_: "".join(c for c in id_ if unicodedata.category(c) not in ("Cc", "Cf")) or id_)


@mutant("306", "PAY-03", source="`input or None`")
def empty_inputs_are_none(patch: pytest.MonkeyPatch) -> None:
    """An input of no bytes reads as None."""
    info = queries.instance_info

    def none_if_empty(instance: Instance, fields: Any) -> InstanceInfo:
        found = info(instance, fields)
        return replace(found, input=found.input or None)

    for module in (queries, hub):
        patch.setattr(module, "instance_info", none_if_empty)


@mutant("306b", "PAY-03", source="Oracle's empty strings", base="sqlite")
def empty_states_are_none(patch: pytest.MonkeyPatch) -> None:
    """A memo, custom status, output or failure of no bytes reads as None."""
    nothing: Any = None
    _in_states(patch, lambda payload: payload or nothing)


@mutant("306c", "PAY-05", source="a check message by message")
def messages_before_a_large_one_are_sent(patch: pytest.MonkeyPatch) -> None:
    """A batch with a message that is too large is sent up to that one."""
    send, check = messages.send_messages, checks.check_messages

    def check_as_you_go(state: HubState, sent: Sequence[Message], now: Millis, limits: Limits) -> list[Outcome]:
        outcomes = []
        for index, message in enumerate(sent):
            try:
                check([message], limits, now)
            except InvalidRequest as error:
                raise type(error)(str(error), index=index) from None
            outcomes += send(state, [message], now, limits)
        return outcomes

    patch.setattr(checks, "check_messages", lambda *_: None)
    patch.setattr(hub, "send_messages", check_as_you_go)


@mutant("306d", "PAY-05", source="a field that came later")
def the_size_of_memos_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A memo may be larger than `max_payload`."""
    size_of = requests._size_of_state
    patch.setattr(requests, "_size_of_state", lambda commit, limits: size_of(replace(commit, memo=UNSET), limits))


@mutant("306e", "PAY-05", "PAY-17", source="an error raised anew")
def errors_name_no_item(patch: pytest.MonkeyPatch) -> None:
    """An error about an item of a batch doesn't say about which."""
    for module in (requests, values):
        each = module.check_each

        def check_each(items: Any, what: str, check: Any, each: Any = each) -> None:
            try:
                each(items, what, check)
            except InvalidRequest as error:
                error.index = None
                raise

        patch.setattr(module, "check_each", check_each)


@mutant("306f", "PAY-05", source="a limit of the protocol, taken for that of a payload")
def a_large_payload_raises_another_error(patch: pytest.MonkeyPatch) -> None:
    """A payload over the limit is an InvalidRequest, and no TooLarge."""
    check = values.check_payload

    def check_payload(value: bytes, limits: Limits, what: str = "payload") -> int:
        try:
            return check(value, limits, what)
        except TooLarge as error:
            raise InvalidRequest(str(error)) from None

    patch.setattr(requests, "check_payload", check_payload)


@mutant("307", "PAY-06", source="a normal form on the way in", base="sqlite")
def messages_are_normalised(patch: pytest.MonkeyPatch) -> None:
    """Payloads of messages that are text come back in a normal form."""

    def normalise(payload: bytes) -> bytes:
        try:
            return unicodedata.normalize("NFC", payload.decode()).encode()
        except UnicodeDecodeError:
            return payload

    _in_inbox(patch, normalise)


@mutant("307b", "PAY-06", "PAY-08", source='`errors="replace"`', base="sqlite")
def what_is_no_text_is_replaced(patch: pytest.MonkeyPatch) -> None:
    """In events, what is no UTF-8 comes back as question marks."""
    _in_history(patch, lambda payload: payload.decode("utf-8", "replace").encode())


@mutant("307c", "PAY-06", source="three-byte UTF-8 on MySQL", base="sqlite")
def astral_characters_are_lost(patch: pytest.MonkeyPatch) -> None:
    """In outputs and statuses, characters of four bytes come back as question marks."""
    _in_states(patch, lambda payload: re.sub(rb"[\xf0-\xf7][\x80-\xbf]{3}", b"?", payload))


@mutant("307d", "PAY-09", source="the escape format of bytea", base="sqlite")
def backslashes_are_escapes(patch: pytest.MonkeyPatch) -> None:
    """In payloads of activities, two backslashes come back as one."""
    _in_activities(patch, lambda payload: payload.replace(b"\\\\", b"\\"))


@mutant("307e", "PAY-09", source="a guess at what is encoded", base="sqlite")
def what_looks_like_base64_is_decoded(patch: pytest.MonkeyPatch) -> None:
    """Messages that look like base64 come back decoded."""

    def decode(payload: bytes) -> bytes:
        try:
            return base64.b64decode(payload, validate=True) if payload.endswith(b"=") else payload
        except binascii.Error:
            return payload

    _in_inbox(patch, decode)


@mutant("307f", "PAY-09", source="hexadecimal input of bytea", base="sqlite")
def what_looks_like_hex_is_decoded(patch: pytest.MonkeyPatch) -> None:
    """Events that begin with a backslash and an x come back as the bytes that they name."""

    def decode(payload: bytes) -> bytes:
        found = re.fullmatch(rb"\\x((?:[0-9a-f]{2})+)", payload)
        return payload if found is None else bytes.fromhex(found[1].decode())

    _in_history(patch, decode)


@mutant("307g", "PAY-08", source="compression noticed by its first bytes", base="sqlite")
def what_looks_compressed_is_unpacked(patch: pytest.MonkeyPatch) -> None:
    """Outputs and statuses that are compressed come back unpacked."""
    import gzip  # noqa: PLC0415

    _in_states(patch, lambda payload: gzip.decompress(payload) if payload.startswith(b"\x1f\x8b") else payload)


@mutant("308", "PAY-12", source="`if value`")
def tags_without_value_are_dropped(patch: pytest.MonkeyPatch) -> None:
    """A tag whose value is empty is not stored."""
    create = instances.create_instance

    def create_with_less(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        tags = {key: value for key, value in new.tags.items() if value}
        return create(state, replace(new, tags=tags), now, settled)

    for module in (instances, turns):
        patch.setattr(module, "create_instance", create_with_less)


@mutant("308b", "PAY-12", source="`version or None`")
def empty_versions_are_none(patch: pytest.MonkeyPatch) -> None:
    """A version that is an empty text reads as None."""
    info = queries.instance_info

    def none_if_empty(instance: Instance, fields: Any) -> InstanceInfo:
        found = info(instance, fields)
        return replace(found, version=found.version or None)

    for module in (queries, hub):
        patch.setattr(module, "instance_info", none_if_empty)


@mutant("308c", "PAY-12", source="dots and dollars in field names")
def keys_of_tags_are_escaped(patch: pytest.MonkeyPatch) -> None:
    """Dots and dollars in the key of a tag come back as underscores."""
    info = queries.instance_info

    def escaped(instance: Instance, fields: Any) -> InstanceInfo:
        found = info(instance, fields)
        return replace(found, tags={re.sub("[.$]", "_", key): value for key, value in found.tags.items()})

    for module in (queries, hub):
        patch.setattr(module, "instance_info", escaped)


@mutant("308d", "PAY-12", source="a limit that is only declared")
def any_number_of_tags_is_taken(patch: pytest.MonkeyPatch) -> None:
    """An instance may have more tags than `max_tags`."""
    check = values.check_tags

    def check_less(tags: Mapping[str, str], limits: Limits) -> None:
        check(tags, replace(limits, max_tags=1_000_000))

    patch.setattr(requests, "check_tags", check_less)


@mutant("308e", "PAY-13", source="datetime.timestamp()")
def times_are_floats(patch: pytest.MonkeyPatch) -> None:
    """`created_at` comes back as a float."""
    info = queries.instance_info

    def as_float(instance: Instance, fields: Any) -> InstanceInfo:
        found = info(instance, fields)
        moment: Any = found.created_at / 1000 * 1000
        return replace(found, created_at=moment)

    for module in (queries, hub):
        patch.setattr(module, "instance_info", as_float)


@mutant("308f", "PAY-13", source="TIMESTAMP(0)", base="sqlite")
def times_of_messages_are_seconds(patch: pytest.MonkeyPatch) -> None:
    """Messages are stored with the second in which they were sent."""
    add = Work.add_message

    def add_in_seconds(work_: Work, row: InstanceRow, id_: str, payload: bytes, due: Millis, **options: bool) -> None:
        now, work_.now = work_.now, work_.now // 1000 * 1000
        try:
            add(work_, row, id_, payload, due, **options)
        finally:
            work_.now = now

    patch.setattr(Work, "add_message", add_in_seconds)


@mutant("308g", "PAY-13", source="an expiry counted in seconds")
def leases_end_at_whole_seconds(patch: pytest.MonkeyPatch) -> None:
    """A lease expires at the end of the second."""
    claim = Ownership.claim
    patch.setattr(Ownership, "claim", lambda ownership, fence, until: claim(ownership, fence, -(-until // 1000) * 1000))


@mutant("308h", "PAY-15", source="16 MiB for a document", base="sqlite")
def a_batch_has_at_most_16_mib(patch: pytest.MonkeyPatch) -> None:
    """A call with more than 16 MiB of messages is refused, though each of them is small enough."""
    flush = Work.flush

    def check_and_flush(work_: Work) -> None:
        if sum(len(values_[-1]) for values_ in work_._messages.values()) > 16 * 1024 * 1024:
            raise TooLarge("the document is larger than 16 MiB")
        flush(work_)

    patch.setattr(Work, "flush", check_and_flush)


@mutant("309", "PAY-17", source="checks for instances only")
def ids_of_activities_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    """An activity may have any id, an empty one or none at all among them."""

    def check(activity: NewActivity, limits: Limits, now: Millis) -> int:
        values.check_due(activity.due, limits, now)
        return values.check_payload(activity.payload, limits)

    patch.setattr(requests, "_check_new_activity", check)


@mutant("309b", "PAY-17", source='`errors="ignore"`')
def surrogates_in_ids_are_dropped(patch: pytest.MonkeyPatch) -> None:
    """A lone surrogate in an id is taken out, and the rest used."""
    check = values.check_id

    def check_rest(value: str, limits: Limits, what: str = "id") -> None:
        check(value.encode("utf-8", "ignore").decode() if isinstance(value, str) else value, limits, what)

    patch.setattr(requests, "check_id", check_rest)


@mutant("309c", "PAY-18", source="a limit that is only declared")
def the_size_of_commits_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A commit may have more than `max_commit_bytes`."""
    check = requests._check_commit
    patch.setattr(
        requests,
        "_check_commit",
        lambda commit, limits, now: check(commit, replace(limits, max_commit_bytes=2**40), now),
    )


@mutant("309d", "PAY-18", source="`>=`")
def a_commit_of_the_limit_is_refused(patch: pytest.MonkeyPatch) -> None:
    """A commit with exactly `max_commit_bytes` is TooLarge."""
    check = requests._check_commit
    patch.setattr(
        requests,
        "_check_commit",
        lambda commit, limits, now: check(commit, replace(limits, max_commit_bytes=limits.max_commit_bytes - 1), now),
    )


@mutant("309e", "PAY-19", source="`bytes(payload)`")
def what_is_like_bytes_is_taken(patch: pytest.MonkeyPatch) -> None:
    """A bytearray is taken for a payload, and may change afterwards."""
    check = values.check_payload

    def check_less(value: Any, limits: Limits, what: str = "payload") -> int:
        return check(bytes(value) if isinstance(value, bytearray) else value, limits, what)

    patch.setattr(requests, "check_payload", check_less)


@mutant("309f", "PAY-11", source="`id` as a number where it looks like one", base="sqlite")
def ids_have_numeric_affinity(patch: pytest.MonkeyPatch) -> None:
    """An id that looks like a number is stored as one."""
    change_schema(
        patch,
        "\thub INTEGER NOT NULL, \n\tid TEXT NOT NULL, \n\tgeneration",
        "\thub INTEGER NOT NULL, \n\tid NUMERIC NOT NULL, \n\tgeneration",
    )


@mutant("309g", "PAY-14", source="an Enum of texts returned for a text")
def queues_are_no_plain_texts(patch: pytest.MonkeyPatch) -> None:
    """An activity comes with a queue of a subclass of str."""

    class Queue(str):
        """As an ORM has them."""

        __slots__ = ()

    lease = activities._lease_activity
    patch.setattr(activities, "_lease_activity", lambda *args: replace(item := lease(*args), queue=Queue(item.queue)))


@mutant("560", "PAY-17", source="a read can do no harm")
def a_history_is_read_of_any_id(patch: pytest.MonkeyPatch) -> None:
    """`read_history` of a malformed id is NotFound."""
    patch.setattr(checks, "check_history_request", lambda *_: None)


@mutant("561", "PAY-17", source="a text that is checked at creation alone")
def the_version_of_the_next_execution_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    """`continued` takes a version that is no text, or holds NUL."""
    check_text = values.check_text

    def check_others(value: str, limits: Limits, what: str = "text") -> None:
        if what != "continued version":
            check_text(value, limits, what)

    patch.setattr(requests, "check_text", check_others)


def _uncounted(patch: pytest.MonkeyPatch, uncounted: str) -> None:
    check_payload = values.check_payload

    def count_others(value: bytes, limits: Limits, what: str = "payload") -> int:
        size = check_payload(value, limits, what)
        return 0 if what == uncounted else size

    patch.setattr(requests, "check_payload", count_others)


@mutant("562", "PAY-18", source="a sum that leaves something out")
def the_next_input_weighs_nothing(patch: pytest.MonkeyPatch) -> None:
    """The input of the next execution doesn't count towards `max_commit_bytes`."""
    _uncounted(patch, "continued input")


@mutant("562b", "PAY-18", source="a sum that leaves something out")
def the_input_of_a_start_weighs_nothing(patch: pytest.MonkeyPatch) -> None:
    """The inputs of a commit's starts don't count towards `max_commit_bytes`."""
    _uncounted(patch, "input")


@mutant("563", "PAY-18", source="the limit of the database's transaction")
def the_commits_of_a_call_share_one_limit(patch: pytest.MonkeyPatch) -> None:
    """The commits of a call together may not be over `max_commit_bytes`."""
    check_commits = checks.check_commits

    def check_all(commits: Sequence[TurnCommit], limits: Limits, now: Millis, what: str = "commits") -> None:
        check_commits(commits, limits, now, what)
        if sum(len(event) for commit in commits for event in commit.events) > limits.max_commit_bytes:
            raise TooLarge("the commits are too large together")

    patch.setattr(checks, "check_commits", check_all)


# Texts that are compared in one place of several by another rule.


def _message_as(patch: pytest.MonkeyPatch, altered: Callable[[Message, Millis], Message]) -> None:
    """Have another message be delivered than the one sent."""
    deliver = messages.deliver

    def delivered(state: HubState, message: Message, now: Millis, *, from_client: bool = False) -> Outcome:
        return deliver(state, altered(message, now), now, from_client=from_client)

    for module in (messages, turns, activities):
        patch.setattr(module, "deliver", delivered)


@mutant("621", "PAY-04", source="a table of its own, with another column")
def control_messages_are_cut(patch: pytest.MonkeyPatch) -> None:
    """A control message's payload is cut at 64 KiB."""
    _message_as(
        patch,
        lambda message, now: replace(message, payload=message.payload[:65_535]) if message.control else message,
    )


@mutant("622", "PAY-02", source="a table of its own, with another column")
def timers_lose_their_last_nul(patch: pytest.MonkeyPatch) -> None:
    """A message that is due later loses NULs at its end."""
    _message_as(
        patch,
        lambda message, now: replace(message, payload=message.payload.rstrip(b"\0")) if message.due > now else message,
    )


@mutant("623", "PAY-04", source="a projection that shortens")
def outputs_are_cut_in_queries(patch: pytest.MonkeyPatch) -> None:
    """A query shows the first 64 KiB of an output."""
    query = queries.query_instances

    def shortened(*arguments: Any) -> Any:
        page = query(*arguments)
        items = [replace(info, output=info.output and info.output[:65_535]) for info in page.items]
        return replace(page, items=items)

    patch.setattr(hub, "query_instances", shortened)


def _refuse_unlike(patch: pytest.MonkeyPatch, as_stored: Callable[[str], str]) -> None:
    """Have the generation of a message be compared by what is stored of it."""
    refusal = messages._refusal

    def refused(state: HubState, message: Message, now: Millis) -> Outcome | None:
        instance = state.instances.get(message.instance)
        if instance is not None and message.generation is not None:
            alike = as_stored(message.generation) == as_stored(instance.generation)
            message = replace(message, generation=None if alike else message.generation)
        return refusal(state, message, now)

    patch.setattr(messages, "_refusal", refused)


@mutant("624", "PAY-16", source="a padded column")
def generations_end_before_their_spaces(patch: pytest.MonkeyPatch) -> None:
    """Generations that differ in spaces at the end are the same to a message."""
    _refuse_unlike(patch, str.rstrip)


@mutant("625", "PAY-16", source="VARCHAR(36), since it is a UUID")
def generations_are_cut(patch: pytest.MonkeyPatch) -> None:
    """Generations that differ behind their 36th character are the same to a message."""
    _refuse_unlike(patch, lambda generation: generation[:36])


@mutant("626", "PAY-16", source="a column with another collation")
def remembered_ids_ignore_case(patch: pytest.MonkeyPatch) -> None:
    """A message whose id differs in case from a consumed one is DUPLICATE."""
    knows = Inbox.knows

    def known(self: Inbox, message_id: str, now: Millis) -> bool:
        consumed = {id_.lower() for id_, until in self._remembered.items() if now < until}
        return knows(self, message_id, now) or message_id.lower() in consumed

    patch.setattr(Inbox, "knows", known)


@mutant("627", "PAY-16", source="a column with another collation")
def cancelling_ignores_case(patch: pytest.MonkeyPatch) -> None:
    """A cancelled message takes those along whose ids differ from its own in case."""
    remove, send = Inbox.remove, turns._send

    def sent(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        cancelled = {id_.lower() for id_ in commit.cancel_messages}
        for id_ in [id_ for id_ in instance.inbox._by_id if id_.lower() in cancelled]:
            remove(instance.inbox, id_)
        send(state, instance, commit, now)

    patch.setattr(turns, "_send", sent)


@mutant("629", "PAY-16", source="keys like `queue:name` in Redis")
def a_queue_and_a_name_make_one_key(patch: pytest.MonkeyPatch) -> None:
    """An activity is found under every queue and name that join to the text of its own."""
    claim = activities.claim_activities

    def claimed(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> Any:
        if request.names is None:
            return claim(state, request, max_items, now)
        keys = {f"{queue}:{name}" for queue in request.queues for name in request.names}
        found = [each for each in state.activities.values() if f"{each.queue}:{each.name}" in keys]
        wanted = replace(request, queues={each.queue for each in found}, names={each.name for each in found})
        return claim(state, wanted, max_items, now)

    patch.setattr(hub, "claim_activities", claimed)


@mutant("630", "PAY-20", source="keys like `instance:activity` in Redis")
def an_instance_and_an_activity_make_one_key(patch: pytest.MonkeyPatch) -> None:
    """An activity whose id joins with its instance's to the text of another's is taken for that one."""
    add = HubState.add_activity

    def added(self: HubState, instance: Instance, new: NewActivity, now: Millis) -> None:
        if f"{instance.id}:{new.id}" not in {f"{each.instance}:{each.id}" for each in self.activities.values()}:
            add(self, instance, new, now)

    patch.setattr(HubState, "add_activity", added)
