"""Mistakes that the cases of queries find out."""

from __future__ import annotations

import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import ColumnElement, Select, func, literal

from perdure.spi import (
    Fields,
    HistoryPage,
    HubStats,
    InstanceInfo,
    InstanceQuery,
    InvalidRequest,
    Millis,
    OrchestrationStatus,
    Page,
    QueueStats,
)
from perdure.spi.checks import decode_cursor, encode_cursor
from perdure_conformance.mutant import mutant
from perdure_memory import hub as memory_hub
from perdure_memory import messages, queries
from perdure_memory.ownership import Ownership
from perdure_memory.state import HubState, Instance
from perdure_sql import Reader, Tables, reads
from perdure_sql import hub as sql_hub
from perdure_sql import queries as sql_queries
from perdure_sqlite import reader
from perdure_sqlite.provider import SQLiteProvider

_Conditions = list[ColumnElement[bool]]


def _patch_matches(patch: pytest.MonkeyPatch, altered: Callable[[InstanceQuery], InstanceQuery]) -> None:
    """Have the filters of another query hold than the one asked for."""
    matches = queries.matches
    patch.setattr(queries, "matches", lambda instance, query: matches(instance, altered(query)))


def _patch_filter(
    patch: pytest.MonkeyPatch, without: dict[str, Any], holds: Callable[[Instance, InstanceQuery], bool]
) -> None:
    """Have `holds` judge in place of the filters that `without` names."""
    matches = queries.matches
    patch.setattr(
        queries,
        "matches",
        lambda instance, query: matches(instance, replace(query, **without)) and holds(instance, query),
    )


def _patch_conditions(
    patch: pytest.MonkeyPatch, without: dict[str, Any], more: Callable[[Tables, InstanceQuery], _Conditions]
) -> None:
    """Have `more` conditions stand in place of the filters that `without` names."""
    conditions = sql_queries._conditions

    def altered(tables: Tables, hub: int, query: InstanceQuery) -> _Conditions:
        return conditions(tables, hub, replace(query, **without)) + more(tables, query)

    patch.setattr(sql_queries, "_conditions", altered)


def _patch_query(patch: pytest.MonkeyPatch, altered: Callable[[HubState, InstanceQuery], Page[InstanceInfo]]) -> None:
    patch.setattr(memory_hub, "query_instances", altered)


# Filters.


@mutant("65", "QRY-04", source="`LIKE 'prefix%'`", base="sqlite")
def like_wildcards_are_not_escaped(patch: pytest.MonkeyPatch) -> None:
    """A percent sign or an underscore in a prefix matches anything."""

    def like(tables: Tables, query: InstanceQuery) -> _Conditions:
        prefix = query.id_prefix
        return [tables.instances.c.id.like(f"{prefix}%")] if prefix else []

    _patch_conditions(patch, {"id_prefix": None}, like)


@mutant("310a", "QRY-04", source="`$regex: '^' + prefix`")
def prefix_is_a_regular_expression(patch: pytest.MonkeyPatch) -> None:
    """What is special in a regular expression is special in a prefix."""

    def begins(instance: Instance, query: InstanceQuery) -> bool:
        return re.match(query.id_prefix or "", instance.id) is not None

    _patch_filter(patch, {"id_prefix": None}, begins)


@mutant("310b", "QRY-04", source="a range that ends at prefix + U+FFFF", base="sqlite")
def prefix_range_ends_too_early(patch: pytest.MonkeyPatch) -> None:
    """Ids that go on behind the prefix with a character beyond the basic plane are not found."""

    def within(tables: Tables, query: InstanceQuery) -> _Conditions:
        column, prefix = tables.instances.c.id, query.id_prefix
        return [column >= prefix, column < f"{prefix}\uffff"] if prefix else []

    _patch_conditions(patch, {"id_prefix": None}, within)


@mutant("68", "QRY-06", source="`if query.statuses:`", base="sqlite")
def empty_set_means_all(patch: pytest.MonkeyPatch) -> None:
    """No status at all is taken for no filter by status."""
    conditions = sql_queries._conditions

    def altered(tables: Tables, hub: int, query: InstanceQuery) -> _Conditions:
        return conditions(tables, hub, replace(query, statuses=query.statuses or None))

    patch.setattr(sql_queries, "_conditions", altered)


@mutant("311", "QRY-06", source="`if query.versions:`")
def no_version_means_all(patch: pytest.MonkeyPatch) -> None:
    """No version at all is taken for no filter by version."""
    _patch_matches(patch, lambda query: replace(query, versions=query.versions or None))


@mutant("312", "QRY-02", source="`=` in place of `IN`")
def only_one_status_is_looked_at(patch: pytest.MonkeyPatch) -> None:
    """Of several statuses only the first counts."""
    _patch_matches(
        patch, lambda query: replace(query, statuses=None if query.statuses is None else list(query.statuses)[:1])
    )


@mutant("313", "QRY-03", source="a collation", base="sqlite")
def names_are_compared_without_case(patch: pytest.MonkeyPatch) -> None:
    """A filter by names finds other spellings of them, too."""

    def named(tables: Tables, query: InstanceQuery) -> _Conditions:
        if query.names is None:
            return []
        return [func.lower(tables.instances.c.name).in_([name.lower() for name in query.names])]

    _patch_conditions(patch, {"names": None}, named)


@mutant("314a", "QRY-05", source="`BETWEEN`", base="sqlite")
def ranges_include_their_end(patch: pytest.MonkeyPatch) -> None:
    """An instance that was completed at a range's end is found."""

    def between(tables: Tables, query: InstanceQuery) -> _Conditions:
        return [] if query.completed_to is None else [tables.instances.c.completed_at <= query.completed_to]

    _patch_conditions(patch, {"completed_to": None}, between)


@mutant("314b", "QRY-05", source="off by one")
def ranges_exclude_their_start(patch: pytest.MonkeyPatch) -> None:
    """An instance that was created at a range's start is not found."""
    _patch_filter(
        patch,
        {"created_from": None},
        lambda instance, query: query.created_from is None or instance.created_at > query.created_from,
    )


@mutant("314c", "QRY-05", source="`if query.updated_to:`")
def time_0_is_no_bound(patch: pytest.MonkeyPatch) -> None:
    """A range that ends at the time 0 is taken for one without an end."""
    _patch_matches(patch, lambda query: replace(query, updated_to=query.updated_to or None))


@mutant("314d", "QRY-05", source="null sorts before every number")
def what_runs_is_completed_before_anything(patch: pytest.MonkeyPatch) -> None:
    """An instance that hasn't ended is found among those completed before a time."""
    _patch_filter(
        patch,
        {"completed_to": None},
        lambda instance, query: query.completed_to is None or (instance.completed_at or 0) < query.completed_to,
    )


@mutant("315", "QRY-06", "QRY-15", source="an early return on the path of an index")
def children_are_not_filtered(patch: pytest.MonkeyPatch) -> None:
    """Asked for an instance's children, a query looks at no other filter."""
    matches = queries.matches

    def by_parent(instance: Instance, query: InstanceQuery) -> bool:
        return matches(instance, query) if query.parent is None else instance.parent == query.parent

    patch.setattr(queries, "matches", by_parent)


@mutant("316a", "QRY-14", source="`ANY`")
def one_tag_is_enough(patch: pytest.MonkeyPatch) -> None:
    """Of several tags one has to be there."""
    patch.setattr(
        queries,
        "_has_tags",
        lambda instance, tags: not tags or any(instance.tags.get(key) == value for key, value in tags.items()),
    )


@mutant("316b", "QRY-14", source="`tags.get(key, '')`")
def missing_tag_is_empty(patch: pytest.MonkeyPatch) -> None:
    """An instance without a tag is found as one that has it with an empty value."""
    patch.setattr(
        queries,
        "_has_tags",
        lambda instance, tags: all(instance.tags.get(key, "") == value for key, value in tags.items()),
    )


@mutant("317", "QRY-15", source="a recursive query")
def grandchildren_are_children(patch: pytest.MonkeyPatch) -> None:
    """All descendants are listed as children."""
    states: dict[int, HubState] = {}
    query_instances = queries.query_instances

    def remembering(state: HubState, query: InstanceQuery) -> Page[InstanceInfo]:
        states[0] = state
        return query_instances(state, query)

    def descends(instance: Instance, query: InstanceQuery) -> bool:
        parent = instance.parent
        while query.parent is not None and parent != query.parent:
            above = states[0].instances.get(parent or "")
            if above is None:
                return False
            parent = above.parent
        return True

    _patch_query(patch, remembering)
    _patch_filter(patch, {"parent": None}, descends)


@mutant("318a", "QRY-19", source="NULL is not IN anything", base="sqlite")
def instances_without_version_are_not_found(patch: pytest.MonkeyPatch) -> None:
    """None among the versions of a filter finds nothing."""

    def listed(tables: Tables, query: InstanceQuery) -> _Conditions:
        return [] if query.versions is None else [tables.instances.c.version.in_(list(query.versions))]

    _patch_conditions(patch, {"versions": None}, listed)


@mutant("318b", "QRY-19", source="`coalesce(version, '')`", base="sqlite")
def no_version_is_the_empty_one(patch: pytest.MonkeyPatch) -> None:
    """None and the empty text are the same version to a filter."""

    def listed(tables: Tables, query: InstanceQuery) -> _Conditions:
        if query.versions is None:
            return []
        return [func.coalesce(tables.instances.c.version, "").in_([version or "" for version in query.versions])]

    _patch_conditions(patch, {"versions": None}, listed)


# Pages.


@mutant("66", "QRY-08", source="langgraph #7179", base="sqlite")
def pages_go_by_the_time_of_creation_alone(patch: pytest.MonkeyPatch) -> None:
    """The next page starts behind the last one's time, and those of the same time are lost."""
    page = sql_queries._page

    def by_time(
        tables: Tables, statement: Select[Any], behind: tuple[int, str] | None, limit: int, *, descending: bool
    ) -> Select[Any]:
        if behind is not None:
            column, place = tables.instances.c.created_at, literal(behind[0])
            statement = statement.where(column < place if descending else column > place)
        return page(tables, statement, None, limit, descending=descending)

    patch.setattr(sql_queries, "_page", by_time)


@mutant("67", "QRY-09", source="OFFSET paging")
def pages_go_by_offset(patch: pytest.MonkeyPatch) -> None:
    """A cursor says how many instances to leave out: what is created before that place repeats some."""

    def by_offset(state: HubState, query: InstanceQuery) -> Page[InstanceInfo]:
        behind = decode_cursor(query)
        offset = 0 if behind is None else behind[0]
        places = state.timeline[::-1] if query.descending else state.timeline
        found = [state.instances[id_] for _, id_ in places if queries.matches(state.instances[id_], query)]
        end = offset + query.page_size
        cursor = encode_cursor(query, end, "") if end < len(found) else None
        return Page(
            items=[queries.instance_info(instance, query.fields) for instance in found[offset:end]], cursor=cursor
        )

    _patch_query(patch, by_offset)


@mutant("319", "QRY-01", "QRY-08", source="the look-ahead row as the cursor", base="sqlite")
def one_is_lost_between_pages(patch: pytest.MonkeyPatch) -> None:
    """The next page starts behind the row that was read only to see whether there is more."""

    def look_ahead(db: Reader, tables: Tables, hub: int, query: InstanceQuery) -> Page[InstanceInfo]:
        size = query.page_size
        statement = sql_queries.instance_page(tables, hub, query, decode_cursor(query), size + 1)
        items = [sql_queries.to_info(row) for row in db.select(statement)]
        cursor = encode_cursor(query, items[-1].created_at, items[-1].id) if len(items) > size else None
        return Page(items=items[:size], cursor=cursor)

    patch.setattr(sql_hub, "query_instances", look_ahead)


@mutant("320a", "QRY-07", source="a collation", base="sqlite")
def ids_are_sorted_without_case(patch: pytest.MonkeyPatch) -> None:
    """Ids of one time are sorted as people would, and not by their bytes."""
    page = sql_queries._page

    def collated(
        tables: Tables, statement: Select[Any], behind: tuple[int, str] | None, limit: int, *, descending: bool
    ) -> Select[Any]:
        columns = tables.instances.c
        paged = page(tables, statement, behind, limit, descending=descending).order_by(None)
        created_at, id_ = columns.created_at, func.lower(columns.id)
        return paged.order_by(created_at.desc(), id_.desc()) if descending else paged.order_by(created_at, id_)

    patch.setattr(sql_queries, "_page", collated)


@mutant("320b", "QRY-07", source="UTF-16 code units")
def ids_are_sorted_as_utf_16(patch: pytest.MonkeyPatch) -> None:
    """Ids beyond the basic plane are sorted before some within it."""
    query_instances = queries.query_instances

    def sort_anew(state: HubState, query: InstanceQuery) -> Page[InstanceInfo]:
        page = query_instances(state, query)
        items = sorted(
            page.items,
            key=lambda info: (info.created_at, info.id.encode("utf-16-be")),
            reverse=query.descending,
        )
        return Page(items=items, cursor=page.cursor)

    _patch_query(patch, sort_anew)


@mutant("321", "QRY-07", "QRY-08", source="`ORDER BY created_at DESC, id`", base="sqlite")
def ties_stay_ascending(patch: pytest.MonkeyPatch) -> None:
    """In descending order the ids of one time are ascending."""
    page = sql_queries._page

    def half_turned(
        tables: Tables, statement: Select[Any], behind: tuple[int, str] | None, limit: int, *, descending: bool
    ) -> Select[Any]:
        paged = page(tables, statement, behind, limit, descending=descending)
        columns = tables.instances.c
        return paged.order_by(None).order_by(columns.created_at.desc(), columns.id) if descending else paged

    patch.setattr(sql_queries, "_page", half_turned)


@mutant("322", "QRY-10", source="a cursor that is looked up")
def purged_cursor_starts_anew(patch: pytest.MonkeyPatch) -> None:
    """A page whose place was purged meanwhile starts at the beginning again."""
    from_cursor = queries._from_cursor

    def looked_up(state: HubState, query: InstanceQuery) -> Iterator[Instance]:
        behind = decode_cursor(query)
        found = behind is None or behind in state.timeline
        return from_cursor(state, query if found else replace(query, cursor=None))

    patch.setattr(queries, "_from_cursor", looked_up)


@mutant("323a", "QRY-11", source="a cursor of the bare place")
def cursor_is_not_bound_to_its_query(patch: pytest.MonkeyPatch) -> None:
    """A cursor of another filter or order is taken."""
    anything = InstanceQuery()
    patch.setattr(queries, "encode_cursor", lambda query, *place: encode_cursor(anything, *place))
    patch.setattr(queries, "decode_cursor", lambda query: decode_cursor(replace(anything, cursor=query.cursor)))


@mutant("323b", "QRY-11", source="`except ValueError: pass`")
def garbage_cursor_is_the_first_page(patch: pytest.MonkeyPatch) -> None:
    """A cursor that can't be read starts at the beginning."""

    def lenient(query: InstanceQuery) -> tuple[Millis, str] | None:
        try:
            return decode_cursor(query)
        except InvalidRequest as error:
            if "another" in str(error):
                raise
            return None

    patch.setattr(queries, "decode_cursor", lenient)


@mutant("323c", "QRY-11", source="`if cursor:`", base="sqlite")
def empty_cursor_is_none(patch: pytest.MonkeyPatch) -> None:
    """An empty text as a cursor starts at the beginning."""
    patch.setattr(reads, "decode_cursor", lambda query: decode_cursor(replace(query, cursor=query.cursor or None)))


@mutant("324", "QRY-18", source="no look-ahead row", base="sqlite")
def last_page_has_a_cursor(patch: pytest.MonkeyPatch) -> None:
    """A page that is just full says that there is another."""

    def full(db: Reader, tables: Tables, hub: int, query: InstanceQuery) -> Page[InstanceInfo]:
        statement = sql_queries.instance_page(tables, hub, query, decode_cursor(query), query.page_size)
        items = [sql_queries.to_info(row) for row in db.select(statement)]
        cursor = encode_cursor(query, items[-1].created_at, items[-1].id) if len(items) == query.page_size else None
        return Page(items=items, cursor=cursor)

    patch.setattr(sql_hub, "query_instances", full)


@mutant("325", "QRY-20", source="cursors of the server's memory", base="sqlite")
def cursors_end_with_their_handle(patch: pytest.MonkeyPatch) -> None:
    """Cursors are numbers of what the provider remembers, until it is closed."""
    remembered: dict[str, str] = {}
    close = SQLiteProvider.close

    def remember(query: InstanceQuery, created_at: Millis, instance: str) -> str:
        cursor = str(len(remembered) + 1)
        remembered[cursor] = encode_cursor(query, created_at, instance)
        return cursor

    def recall(query: InstanceQuery) -> tuple[Millis, str] | None:
        if query.cursor is None:
            return None
        return decode_cursor(replace(query, cursor=remembered.get(query.cursor, "")))

    def close_and_forget(provider: SQLiteProvider) -> None:
        remembered.clear()
        close(provider)

    patch.setattr(reads, "encode_cursor", remember)
    patch.setattr(reads, "decode_cursor", recall)
    patch.setattr(SQLiteProvider, "close", close_and_forget)


@mutant("326", "QRY-21", source="a silent LIMIT")
def large_pages_are_cut(patch: pytest.MonkeyPatch) -> None:
    """A page of more than 500 is cut to 500, and nothing says so."""
    query_instances = queries.query_instances

    def cut(state: HubState, query: InstanceQuery) -> Page[InstanceInfo]:
        page = query_instances(state, query)
        return replace(page, items=page.items[:500])

    _patch_query(patch, cut)


# What is read of an instance.


@mutant("327", "QRY-12", source="`SELECT *`")
def projection_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """Every payload is returned, whatever was asked for."""
    instance_info = queries.instance_info
    patch.setattr(queries, "instance_info", lambda instance, fields: instance_info(instance, Fields.ALL))


@mutant("328", "QRY-12", source="`output or None`", base="sqlite")
def empty_payload_is_read_as_none(patch: pytest.MonkeyPatch) -> None:
    """An empty output is read as if there were none."""
    to_info = sql_queries.to_info

    def falsy(row: Sequence[Any]) -> InstanceInfo:
        info = to_info(row)
        return replace(info, output=info.output or None)

    patch.setattr(reads, "to_info", falsy)


class _Folding(dict[str, Instance]):
    """Instances by their ids as a database compares them that was not told otherwise."""

    fold: Callable[[str], str]

    def __init__(self, fold: Callable[[str], str]) -> None:
        super().__init__()
        self.fold = fold

    def __getitem__(self, key: str) -> Instance:
        return super().__getitem__(self.fold(key))

    def __setitem__(self, key: str, value: Instance) -> None:
        super().__setitem__(self.fold(key), value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(self.fold(key))

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(self.fold(key), default)


def _fold_ids(patch: pytest.MonkeyPatch, fold: Callable[[str], str]) -> None:
    init = HubState.__init__

    def folding(state: HubState) -> None:
        init(state)
        state.instances = _Folding(fold)

    patch.setattr(HubState, "__init__", folding)


@mutant("69", "QRY-13", source="MySQL's default collation, citext")
def ids_are_compared_without_case(patch: pytest.MonkeyPatch) -> None:
    """Ids that differ in case or in a space at their end are one."""
    _fold_ids(patch, lambda key: key.casefold().rstrip(" "))


@mutant("329", "QRY-13", source="a file system's or an ICU collation's equality")
def ids_are_normalised(patch: pytest.MonkeyPatch) -> None:
    """Composed and decomposed accents in ids are the same."""
    _fold_ids(patch, lambda key: unicodedata.normalize("NFC", key))


@mutant("87", "QRY-16", source="rows as they come", base="sqlite")
def reads_by_id_come_in_storage_order(patch: pytest.MonkeyPatch) -> None:
    """Reading by id returns what is there in the order of the store, the unknown ones behind."""
    get_instances = reads.get_instances

    def as_stored(db: Any, hub: int, ids: Sequence[str], fields: Fields) -> list[InstanceInfo | None]:
        found = get_instances(db, hub, ids, fields)
        return sorted(found, key=lambda info: (info is None, "" if info is None else info.id))

    patch.setattr(sql_hub, "get_instances", as_stored)


@mutant("330", "QRY-16", source="`found.pop(id)`", base="sqlite")
def an_id_asked_twice_is_answered_once(patch: pytest.MonkeyPatch) -> None:
    """The second time that an id is asked for in a call, it is unknown."""
    get_instances = reads.get_instances

    def once(db: Any, hub: int, ids: Sequence[str], fields: Fields) -> list[InstanceInfo | None]:
        found = get_instances(db, hub, ids, fields)
        return [None if id_ in ids[:place] else info for place, (id_, info) in enumerate(zip(ids, found, strict=True))]

    patch.setattr(sql_hub, "get_instances", once)


# Counts.


def _patch_queues(
    patch: pytest.MonkeyPatch, counted: Callable[[list[tuple[Ownership, Millis | None]], Millis], QueueStats]
) -> None:
    patch.setattr(queries, "_queue_stats", lambda items, now: counted(list(items), now))


@mutant("331a", "QRY-17", source="one count too many")
def leased_work_counts_as_ready(patch: pytest.MonkeyPatch) -> None:
    """Work under a lease is counted twice: as leased, and by when it was due."""
    queue_stats = queries._queue_stats

    def twice(items: list[tuple[Ownership, Millis | None]], now: Millis) -> QueueStats:
        stats = queue_stats(items, now)
        return replace(stats, ready=stats.ready + stats.leased)

    _patch_queues(patch, twice)


@mutant("331b", "QRY-17", source="`time.time()`")
def age_is_measured_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """How long work has been ready is measured by this machine's clock."""
    queue_stats = queries._queue_stats

    def by_wall_clock(items: list[tuple[Ownership, Millis | None]], now: Millis) -> QueueStats:
        stats = queue_stats(items, now)
        if stats.oldest_ready_age_ms is None:
            return stats
        return replace(stats, oldest_ready_age_ms=stats.oldest_ready_age_ms + int(time.time() * 1000) - now)

    _patch_queues(patch, by_wall_clock)


@mutant("331c", "QRY-22", source="off by one", base="sqlite")
def expired_lease_counts_for_one_more_moment(patch: pytest.MonkeyPatch) -> None:
    """At the very moment of its expiry a lease still counts."""
    for name in ("TURN_QUEUE", "ACTIVITY_QUEUE"):
        statement = getattr(reader, name)
        late = statement.replace("lease_until > now", "lease_until >= now").replace(
            "lease_until <= now", "lease_until < now"
        )
        patch.setattr(reader, name, late)


@mutant("331d", "QRY-22", source="release delays forgotten")
def delayed_work_counts_as_ready(patch: pytest.MonkeyPatch) -> None:
    """Work that a release delay hides counts as ready."""
    queue_stats = queries._queue_stats

    def undelayed(items: list[tuple[Ownership, Millis | None]], now: Millis) -> QueueStats:
        return queue_stats([(each, now if at == each.hidden_until else at) for each, at in items], now)

    _patch_queues(patch, undelayed)


@mutant("331e", "QRY-17", source="rows of instances that are gone", base="sqlite")
def finished_instances_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """Instances that have ended are missing from the counts."""
    count_work = reads.count_work

    def running(db: Any, hub: int, now: Millis) -> HubStats:
        stats = count_work(db, hub, now)
        return replace(
            stats, instances={status: count for status, count in stats.instances.items() if not status.is_terminal}
        )

    patch.setattr(sql_hub, "count_work", running)


@mutant("570", "QRY-06", source="a query of its own for children")
def children_are_found_whatever_their_tags(patch: pytest.MonkeyPatch) -> None:
    """A query by parent doesn't look at the tags that are asked for."""
    _patch_matches(patch, lambda query: query if query.parent is None else replace(query, tags=None))


@mutant("571", "QRY-22", source="two counts, each by its own condition")
def a_kept_instance_with_a_timer_counts_twice(patch: pytest.MonkeyPatch) -> None:
    """A leased instance whose next message is due after the lease counts as leased and as to come."""
    queue_stats = queries._queue_stats

    def twice(items: Iterator[tuple[Ownership, Millis | None]], now: Millis) -> QueueStats:
        listed = list(items)
        late = [
            ready_at
            for ownership, ready_at in listed
            if ready_at is not None and ready_at > ownership.leased_until() > now
        ]
        stats = queue_stats(listed, now)
        return replace(stats, future=stats.future + len(late))

    patch.setattr(queries, "_queue_stats", twice)


# Found by trying what nobody had listed.


@mutant("600", "QRY-03", "PAY-16", source="names passed as one text")
def names_are_joined_by_commas(patch: pytest.MonkeyPatch) -> None:
    """A name with a comma in it is looked for as several names."""
    _patch_matches(
        patch,
        lambda query: query if query.names is None else replace(query, names=",".join(query.names).split(",")),
    )


@mutant("601", "QRY-14", source="tags kept as texts")
def tags_are_joined_to_texts(patch: pytest.MonkeyPatch) -> None:
    """A tag is kept as `name=value`, so that an equals sign may belong to either."""

    def holds(instance: Instance, query: InstanceQuery) -> bool:
        kept = {f"{name}={value}" for name, value in instance.tags.items()}
        return {f"{name}={value}" for name, value in (query.tags or {}).items()} <= kept

    _patch_filter(patch, {"tags": None}, holds)


@mutant("602", "QRY-14", source="a query that was written for two")
def only_two_tags_are_looked_at(patch: pytest.MonkeyPatch) -> None:
    """Of the tags asked for, the last two must be there."""
    _patch_matches(patch, lambda query: replace(query, tags=dict([*(query.tags or {}).items()][-2:])))


@mutant("603", "QRY-21", source="DynamoDB's limit on what is read, before the filter")
def a_scan_ends_where_much_does_not_match(patch: pytest.MonkeyPatch) -> None:
    """Behind a thousand instances that don't match nothing is found."""

    def query_instances(state: HubState, query: InstanceQuery) -> Page[InstanceInfo]:
        seen = [state.instances[name] for _, name in state.timeline]
        if query.descending:
            seen.reverse()
        near = {instance.id for instance in seen[:1000]}
        page = queries.query_instances(state, query)
        if query.cursor is not None:
            return page
        items = [info for info in page.items if info.id in near]
        return page if items == list(page.items) else Page(items=items, cursor=None)

    patch.setattr(memory_hub, "query_instances", query_instances)


@mutant("604", "QRY-21", source="a largest page, and no cursor behind it")
def the_rest_of_a_large_page_is_lost(patch: pytest.MonkeyPatch) -> None:
    """Of a page of more than a thousand the rest is lost."""

    def query_instances(state: HubState, query: InstanceQuery) -> Page[InstanceInfo]:
        page = queries.query_instances(state, query)
        return page if len(page.items) <= 1000 else Page(items=page.items[:1000], cursor=page.cursor)

    patch.setattr(memory_hub, "query_instances", query_instances)


def _patch_shown(patch: pytest.MonkeyPatch, shown: Callable[[InstanceInfo], InstanceInfo]) -> None:
    """Have queries, and they alone, show instances otherwise."""

    def query_instances(state: HubState, query: InstanceQuery) -> Page[InstanceInfo]:
        page = queries.query_instances(state, query)
        return Page(items=[shown(info) for info in page.items], cursor=page.cursor)

    patch.setattr(memory_hub, "query_instances", query_instances)


@mutant("605", "QRY-12", source="a column left out of one of two selects")
def queries_know_no_execution(patch: pytest.MonkeyPatch) -> None:
    """In a query every instance is in its first execution."""
    _patch_shown(patch, lambda info: replace(info, execution=1))


@mutant("606", "QRY-12", source="columns in the wrong order")
def queries_take_one_time_for_another(patch: pytest.MonkeyPatch) -> None:
    """In a query an instance was last updated when it was created."""
    _patch_shown(patch, lambda info: replace(info, updated_at=info.created_at))


@mutant("607", "QRY-23", source="a cursor of the database, left open")
def later_pages_show_what_was(patch: pytest.MonkeyPatch) -> None:
    """The first page keeps the result, from which later ones come."""
    kept: dict[str, dict[str, InstanceInfo]] = {}

    def query_instances(state: HubState, query: InstanceQuery) -> Page[InstanceInfo]:
        page = queries.query_instances(state, query)
        seen = kept.get(query.cursor or "")
        if seen is None:
            whole = queries.query_instances(state, replace(query, page_size=1_000_000))
            seen = {info.id: info for info in whole.items}
        if page.cursor is not None:
            kept[page.cursor] = seen
        return Page(items=[seen.get(info.id, info) for info in page.items], cursor=page.cursor)

    patch.setattr(memory_hub, "query_instances", query_instances)


@mutant("608", "QRY-24", source="a list handed out")
def a_page_of_history_is_the_history(patch: pytest.MonkeyPatch) -> None:
    """A whole history is returned as the very list that grows."""

    def read_history(state: HubState, instance: str, after: int, limit: int) -> HistoryPage:
        page = queries.read_history(state, instance, after, limit)
        history = state.instances[instance].history
        return replace(page, events=history) if page.events == history else page

    patch.setattr(memory_hub, "read_history", read_history)


@mutant("610", "QRY-17", source="the wrong aggregate")
def stats_tell_the_youngest_age(patch: pytest.MonkeyPatch) -> None:
    """The age of ready work is that of what became ready last."""

    def queue_stats(items: Iterable[tuple[Ownership, Millis | None]], now: Millis) -> QueueStats:
        listed = list(items)
        stats = right(listed, now)
        ready = [at for owner, at in listed if at is not None and at <= now and owner.leased_until() <= now]
        return replace(stats, oldest_ready_age_ms=now - max(ready) if ready else None)

    right = queries._queue_stats
    patch.setattr(queries, "_queue_stats", queue_stats)


@mutant("611", "QRY-17", source="a default taken for the only one")
def stats_count_the_default_queue(patch: pytest.MonkeyPatch) -> None:
    """Activities of other queues are not counted."""

    def count_work(state: HubState, now: Millis) -> HubStats:
        others = {key: each for key, each in state.activities.items() if each.queue != "default"}
        for key in others:
            del state.activities[key]
        stats = queries.count_work(state, now)
        state.activities.update(others)
        return stats

    patch.setattr(memory_hub, "count_work", count_work)


@mutant("612", "QRY-17", source="counters beside the instances")
def a_reopened_instance_counts_twice(patch: pytest.MonkeyPatch) -> None:
    """The counter of a status is not taken back when an instance of it is reopened."""
    drift: Counter[OrchestrationStatus] = Counter()
    reopen = messages._reopen

    def reopened(state: HubState, instance: Instance, now: Millis) -> None:
        drift[instance.status] += 1
        reopen(state, instance, now)

    def count_work(state: HubState, now: Millis) -> HubStats:
        stats = queries.count_work(state, now)
        return replace(stats, instances=Counter(stats.instances) + drift)

    patch.setattr(messages, "_reopen", reopened)
    patch.setattr(memory_hub, "count_work", count_work)
