"""Mistakes that the cases of history find out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import Corrupt, HistoryPage, NotFound, TurnBatch, TurnCommit, TurnItem
from perdure.spi.checks import queries as queries_checks
from perdure.spi.checks import values
from perdure_conformance.mutant import mutant
from perdure_conformance.mutants.schemas import change_statement
from perdure_memory import hub, queries, turns
from perdure_memory.state import HubState, Instance
from perdure_sql import CorruptRow, Reader, history, pack_events, unpack_events, work
from perdure_sql import hub as sql_hub
from perdure_sql import turns as sql_turns
from perdure_sqlite import SQLiteProvider, reader


@mutant("83", "HIS-09", source="duroxide-pg 0.1.28: `except: continue`", base="sqlite")
def bad_rows_are_skipped(patch: pytest.MonkeyPatch) -> None:
    """A history row that can't be decoded, or is missing, is left out, and nobody is told."""

    def join_rows(rows: Iterable[tuple[int, int, bytes]], first: int, end: int) -> list[bytes]:
        events: list[bytes] = []
        for first_seq, count, value in rows:
            try:
                found = unpack_events(count, value)
            except CorruptRow:
                continue
            events += found[max(0, first - first_seq) : max(0, end - first_seq)]
        return events

    for module in (history, sql_turns):
        patch.setattr(module, "join_rows", join_rows)


@mutant("291", "HIS-09", source="an error of one item raised for all", base="sqlite")
def a_bad_row_fails_the_claim(patch: pytest.MonkeyPatch) -> None:
    """A claim that meets a history with a bad row raises, and its neighbours in the claim get no turn either."""
    claim = sql_turns._histories

    def raise_error(*args: Any) -> dict[int, tuple[list[bytes] | None, str | None]]:
        found = claim(*args)
        for _, error in found.values():
            if error is not None:
                raise Corrupt(error)
        return found

    patch.setattr(sql_turns, "_histories", raise_error)


@mutant("291b", "HIS-09", source="a damaged instance put aside", base="sqlite")
def a_bad_row_hides_the_instance(patch: pytest.MonkeyPatch) -> None:
    """A claim leaves out an instance whose history has a bad row, so that nobody can end it."""
    claim = sql_turns.claim_turns

    def leave_out(*args: Any) -> TurnBatch:
        batch = claim(*args)
        return replace(batch, items=[item for item in batch.items if item.error is None])

    patch.setattr(sql_hub, "claim_turns", leave_out)


@mutant("291c", "HIS-09", source="a checksum that nobody compares", base="sqlite")
def missing_rows_are_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """A gap in a history is not noticed: what is there is returned."""

    def join_rows(rows: Iterable[tuple[int, int, bytes]], first: int, end: int) -> list[bytes]:
        events: list[bytes] = []
        for first_seq, count, value in rows:
            events += unpack_events(count, value)[max(0, first - first_seq) : max(0, end - first_seq)]
        return events

    for module in (history, sql_turns):
        patch.setattr(module, "join_rows", join_rows)


@mutant("292", "HIS-01", "HIS-02", source="a key made of text", base="sqlite")
def events_are_ordered_as_text(patch: pytest.MonkeyPatch) -> None:
    """Rows of a history come in the order of their numbers as text: 10 before 9."""
    order, column = "ORDER BY perdure_history.first_seq", "CAST(perdure_history.first_seq AS TEXT)"
    change_statement(patch, reader, "HISTORY_ROWS", order, f"ORDER BY {column}")

    def join_rows(rows: Iterable[tuple[int, int, bytes]], first: int, end: int) -> list[bytes]:
        parts = [(first_seq, unpack_events(count, value)) for first_seq, count, value in rows]
        return [event for seq, found in parts for event in found[max(0, first - seq) : max(0, end - seq)]]

    patch.setattr(history, "join_rows", join_rows)


@mutant("292b", "HIS-01", source="a seq counted from the claim")
def a_kept_lease_writes_over_its_events(patch: pytest.MonkeyPatch) -> None:
    """The second commit under a kept lease takes the place of the events of the first."""
    write, leave = turns._write_history, turns._leave
    kept: dict[int, int] = {}

    def write_from_the_claim(instance: Instance, commit: TurnCommit) -> None:
        start = kept.get(id(instance))
        number = len(instance.history)
        write(instance, commit)
        if start is not None and commit.events and number > start:
            instance.history[number - 1] = instance.history[number]

    def note(state: HubState, instance: Instance, commit: TurnCommit, now: int) -> None:
        leave(state, instance, commit, now)
        if commit.keep_ms is None:
            kept.pop(id(instance), None)
        else:
            kept.setdefault(id(instance), commit.expected_next_seq)

    patch.setattr(turns, "_write_history", write_from_the_claim)
    patch.setattr(turns, "_leave", note)


@mutant("293", "HIS-02", source="a fetch size taken for the end", base="sqlite")
def a_read_ends_after_some_rows(patch: pytest.MonkeyPatch) -> None:
    """A read returns no more than 500 rows, whatever was asked for."""
    statement = reader.HISTORY_ROWS

    def join_rows(rows: Iterable[tuple[int, int, bytes]], first: int, end: int) -> list[bytes]:
        parts = [(first_seq, unpack_events(count, value)) for first_seq, count, value in rows]
        return [event for seq, found in parts for event in found[max(0, first - seq) : max(0, end - seq)]]

    patch.setattr(reader, "HISTORY_ROWS", f"{statement} LIMIT 500")
    patch.setattr(history, "join_rows", join_rows)


@mutant("293b", "HIS-02", source="a batch insert of at most so many rows")
def a_commit_writes_a_thousand_events(patch: pytest.MonkeyPatch) -> None:
    """Of a commit's events no more than 999 are written."""
    write = turns._write_history

    def write_some(instance: Instance, commit: TurnCommit) -> None:
        write(instance, replace(commit, events=commit.events[:999]))

    patch.setattr(turns, "_write_history", write_some)


def _change_pages(patch: pytest.MonkeyPatch, change: Any) -> None:
    read = queries.read_history

    def changed(state: HubState, instance_id: str, after: int, limit: int) -> HistoryPage:
        found: HistoryPage = change(read, state, instance_id, after, limit)
        return found

    patch.setattr(hub, "read_history", changed)


@mutant("294", "HIS-03", source="`<=`")
def more_is_true_at_the_end(patch: pytest.MonkeyPatch) -> None:
    """A page that ends with the last event says that there is more."""

    def change(read: Any, state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        page: HistoryPage = read(state, instance, after, limit)
        return replace(page, more=len(page.events) == limit)

    _change_pages(patch, change)


@mutant("294b", "HIS-03", source="`limit + 1` to know whether there is more")
def a_page_has_one_event_more(patch: pytest.MonkeyPatch) -> None:
    """A page holds the event by which it was found out that there is more."""

    def change(read: Any, state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        page: HistoryPage = read(state, instance, after, limit)
        longer: HistoryPage = read(state, instance, after, limit + 1)
        return replace(longer, more=page.more)

    _change_pages(patch, change)


@mutant("294c", "HIS-03", source="`>=`")
def after_is_included(patch: pytest.MonkeyPatch) -> None:
    """A page begins with the event after which it should begin."""

    def change(read: Any, state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        page: HistoryPage = read(state, instance, max(-1, after - 1), limit)
        return replace(page, first_seq=after + 1)

    _change_pages(patch, change)


@mutant("294d", "HIS-03", source="a row for each commit, returned whole", base="sqlite")
def a_page_begins_with_its_row(patch: pytest.MonkeyPatch) -> None:
    """A page that begins within the events of a commit returns those before it too."""

    def join_rows(rows: Iterable[tuple[int, int, bytes]], first: int, end: int) -> list[bytes]:
        events = [event for _, count, value in rows for event in unpack_events(count, value)]
        return events[: end - first]

    patch.setattr(history, "join_rows", join_rows)


@mutant("295", "HIS-04", source="an offset that is clamped")
def behind_the_end_the_last_page_comes_again(patch: pytest.MonkeyPatch) -> None:
    """A page from behind the end holds the last event once more."""

    def change(read: Any, state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        found = state.instances.get(instance)
        last = -1 if found is None else len(found.history) - 2
        page: HistoryPage = read(state, instance, max(-1, min(after, last)), limit)
        return replace(page, first_seq=after + 1)

    _change_pages(patch, change)


@mutant("295b", "HIS-04", source="first_seq of the first row")
def an_empty_page_begins_at_the_end(patch: pytest.MonkeyPatch) -> None:
    """A page without events says that it begins at `next_seq`, or at 0."""

    def change(read: Any, state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        page: HistoryPage = read(state, instance, after, limit)
        return page if page.events else replace(page, first_seq=len(state.instances[instance].history))

    _change_pages(patch, change)


@mutant("296", "HIS-05", source="a cache of histories")
def a_history_that_was_read_stays(patch: pytest.MonkeyPatch) -> None:
    """A history is read once and returned from then on, whatever is appended."""
    cache: dict[tuple[int, str], Instance] = {}

    def change(read: Any, state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        found = state.instances.get(instance)
        if found is None:
            raise NotFound(f"there is no instance {instance!r}")
        cached = cache.setdefault((id(state), instance), replace(found, history=list(found.history)))
        events = cached.history[after + 1 : after + 1 + limit]
        page: HistoryPage = read(state, instance, after, limit)
        return replace(page, events=events, more=after + 1 + limit < len(cached.history))

    _change_pages(patch, change)


def _change_items(patch: pytest.MonkeyPatch, change: Any) -> None:
    lease = turns._lease_turn

    def changed(state: HubState, instance: Instance, request: Any, now: int, held: Any) -> TurnItem:
        item: TurnItem = change(lease(state, instance, request, now, held), instance, request, held)
        return item

    patch.setattr(turns, "_lease_turn", changed)


@mutant("297", "HIS-07", source="`history or None`")
def an_empty_inline_history_is_none(patch: pytest.MonkeyPatch) -> None:
    """A claim with `inline_history` returns None for an instance without events."""
    _change_items(patch, lambda item, *_: replace(item, history=item.history or None))


@mutant("297b", "HIS-07", source="a field that is always filled")
def history_comes_unasked(patch: pytest.MonkeyPatch) -> None:
    """A claim returns histories that it did not ask for."""
    _change_items(patch, lambda item, instance, *_: replace(item, history=list(instance.history)))


@mutant("297c", "HIS-07", source="a worker that keeps a lease is thought to have a cache")
def a_held_lease_has_no_inline_history(patch: pytest.MonkeyPatch) -> None:
    """A claim by a held lease returns no history."""
    _change_items(patch, lambda item, _, __, held: item if held is None else replace(item, history=None))


@mutant("297d", "HIS-07", "HIS-12", source="rows of a batch told apart by seq alone", base="sqlite")
def a_batch_of_histories_is_mixed(patch: pytest.MonkeyPatch) -> None:
    """A claim of several instances returns the same history for each."""
    histories = sql_turns._histories

    def the_first(rows: Sequence[Any], selected: Any) -> dict[int, tuple[list[bytes] | None, str | None]]:
        found = histories(rows, selected)
        first = next(iter(found.values()))
        return dict.fromkeys(found, first)

    patch.setattr(sql_turns, "_histories", the_first)


@mutant("298", "HIS-08", source="a page bounded by bytes", base="sqlite")
def a_page_of_bytes_ends_the_history(patch: pytest.MonkeyPatch) -> None:
    """A page stops at 4 MiB, and says that there is no more."""
    read = history.read_history

    def read_some(db: Reader, hub_key: int, instance: str, after: int, limit: int) -> HistoryPage:
        page = read(db, hub_key, instance, after, limit)
        size, events = 0, list[bytes]()
        for event in page.events:
            size += len(event)
            if events and size > 4 * 1024 * 1024:
                return replace(page, events=events, more=False)
            events.append(event)
        return page

    patch.setattr(sql_hub, "read_history", read_some)


@mutant("299", "HIS-10", source="a join that finds nothing")
def nobody_has_an_empty_history(patch: pytest.MonkeyPatch) -> None:
    """The history of an unknown instance is an empty page."""

    def change(read: Any, state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        if instance not in state.instances:
            return HistoryPage(events=[], first_seq=after + 1, more=False, generation="", execution=1)
        page: HistoryPage = read(state, instance, after, limit)
        return page

    _change_pages(patch, change)


@mutant("299b", "HIS-10", source="hub missing in the WHERE", base="sqlite")
def a_history_is_found_in_any_hub(patch: pytest.MonkeyPatch) -> None:
    """The history of an instance is read, whatever hub it is in."""
    change_statement(patch, reader, "HISTORY_HEAD", "perdure_instances.hub = ?", "? IS NOT NULL")


@mutant("299c", "HIS-10", source="no check")
def a_page_may_have_no_size(patch: pytest.MonkeyPatch) -> None:
    """A `limit` under 1 is taken."""
    check = values.check_int

    def check_less(value: int, what: str, **bounds: int) -> None:
        if what != "limit":
            check(value, what, **bounds)

    patch.setattr(queries_checks, "check_int", check_less)


@mutant("300", "HIS-11", source="`if event`")
def empty_events_are_left_out(patch: pytest.MonkeyPatch) -> None:
    """An event of no bytes is not written."""
    write = turns._write_history

    def write_some(instance: Instance, commit: TurnCommit) -> None:
        write(instance, replace(commit, events=[event for event in commit.events if event]))

    patch.setattr(turns, "_write_history", write_some)


@mutant("300b", "HIS-11", source="events joined by a separator", base="sqlite")
def trailing_empty_events_are_lost(patch: pytest.MonkeyPatch) -> None:
    """Empty events at the end of a commit are not stored."""

    def pack(events: Sequence[bytes], first_seq: int) -> Iterator[tuple[int, int, bytes]]:
        kept = list(events)
        while kept and not kept[-1]:
            kept.pop()
        return pack_events(kept, first_seq)

    patch.setattr(work, "pack_events", pack)


@mutant("301", "HIS-12", source="`LIKE ? || '%'`", base="sqlite")
def a_history_is_found_by_prefix(patch: pytest.MonkeyPatch) -> None:
    """The history of an instance is that of the first whose id begins with its id, in the sense of LIKE."""
    condition = "perdure_instances.id = ?"
    change_statement(patch, reader, "HISTORY_HEAD", condition, "perdure_instances.id LIKE ? || '%'")


@mutant("301b", "HIS-12", source="a key of id and seq in one text")
def a_history_is_written_under_a_joined_key(patch: pytest.MonkeyPatch) -> None:
    """Instances whose ids are equal up to a separator share a history."""
    write = turns._write_history
    shared: dict[str, list[bytes]] = {}

    def write_shared(instance: Instance, commit: TurnCommit) -> None:
        head, separator, _ = instance.id.partition("/")
        if separator:
            instance.history = shared.setdefault(head, instance.history)
        elif instance.id == head:
            shared[head] = instance.history
        write(instance, commit)

    patch.setattr(turns, "_write_history", write_shared)


@mutant("302", "HIS-13", source="a constant")
def a_page_is_always_of_the_first_execution(patch: pytest.MonkeyPatch) -> None:
    """A page says that it is of execution 1."""

    def change(read: Any, state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        page: HistoryPage = read(state, instance, after, limit)
        return replace(page, execution=1)

    _change_pages(patch, change)


@mutant("302b", "HIS-13", source="the generation of the first row")
def a_page_without_events_has_no_generation(patch: pytest.MonkeyPatch) -> None:
    """A page without events names no generation."""

    def change(read: Any, state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        page: HistoryPage = read(state, instance, after, limit)
        return page if page.events else replace(page, generation="")

    _change_pages(patch, change)


@mutant("303", "HIS-14", source="large values put aside in memory", base="sqlite")
def large_events_are_kept_by_the_process(patch: pytest.MonkeyPatch) -> None:
    """Events over 4 KiB are lost when the store is closed."""
    close = SQLiteProvider.close
    aside: dict[bytes, bytes] = {}

    def pack(events: Sequence[bytes], first_seq: int) -> Iterator[tuple[int, int, bytes]]:
        stored = []
        for event in events:
            name = b"aside %d" % len(aside)
            if len(event) > 4096:
                aside[name] = event
            stored.append(name if len(event) > 4096 else event)
        return pack_events(stored, first_seq)

    def unpack(count: int, value: bytes) -> list[bytes]:
        return [aside.get(event, event) for event in unpack_events(count, value)]

    def close_and_forget(provider: SQLiteProvider) -> None:
        close(provider)
        aside.clear()

    patch.setattr(work, "pack_events", pack)
    patch.setattr(history, "unpack_events", unpack)
    patch.setattr(SQLiteProvider, "close", close_and_forget)
