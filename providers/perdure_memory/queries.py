"""Reading: single instances, queries, history, counts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from perdure.spi import (
    Fields,
    HistoryPage,
    HubStats,
    InstanceInfo,
    InstanceQuery,
    Millis,
    NotFound,
    Page,
    QueueStats,
)
from perdure.spi.checks import decode_cursor, encode_cursor
from perdure_memory.ownership import Ownership
from perdure_memory.state import HubState, Instance


def instance_info(instance: Instance, fields: Fields) -> InstanceInfo:
    """Return an instance as a reader sees it, with the payloads asked for."""
    return InstanceInfo(
        id=instance.id,
        generation=instance.generation,
        name=instance.name,
        version=instance.version,
        status=instance.status,
        execution=instance.execution,
        created_at=instance.created_at,
        updated_at=instance.updated_at,
        completed_at=instance.completed_at,
        rev=instance.rev,
        status_rev=instance.status_rev,
        input=instance.input if Fields.INPUT in fields else None,
        output=instance.output if Fields.OUTPUT in fields else None,
        custom_status=instance.custom_status if Fields.CUSTOM_STATUS in fields else None,
        failure=instance.failure if Fields.FAILURE in fields else None,
        parent=instance.parent,
        tags=dict(instance.tags),
        next_seq=len(instance.history),
    )


def query_instances(state: HubState, query: InstanceQuery) -> Page[InstanceInfo]:
    """Return one page, beginning behind the key in the cursor."""
    found: list[Instance] = []
    for instance in _from_cursor(state, query):
        if not matches(instance, query):
            continue
        if len(found) == query.page_size:
            last = found[-1]
            cursor = encode_cursor(query, last.created_at, last.id)
            break
        found.append(instance)
    else:
        cursor = None
    return Page(items=[instance_info(instance, query.fields) for instance in found], cursor=cursor)


def _from_cursor(state: HubState, query: InstanceQuery) -> Iterator[Instance]:
    behind = decode_cursor(query)
    timeline = state.timeline
    if query.descending:
        end = len(timeline) if behind is None else bisect_left(timeline, behind)
        places: Iterable[int] = range(end - 1, -1, -1)
    else:
        places = range(0 if behind is None else bisect_right(timeline, behind), len(timeline))
    return (state.instances[timeline[place][1]] for place in places)


def matches(instance: Instance, query: InstanceQuery) -> bool:
    """Tell whether an instance passes every filter of a query."""
    return (
        (query.statuses is None or instance.status in query.statuses)
        and (query.names is None or instance.name in query.names)
        and (query.versions is None or instance.version in query.versions)
        and (query.id_prefix is None or instance.id.startswith(query.id_prefix))
        and (query.parent is None or instance.parent == query.parent)
        and (query.tags is None or _has_tags(instance, query.tags))
        and _is_within(instance.created_at, query.created_from, query.created_to)
        and _is_within(instance.updated_at, query.updated_from, query.updated_to)
        and _is_within(instance.completed_at, query.completed_from, query.completed_to)
    )


def _has_tags(instance: Instance, tags: Mapping[str, str]) -> bool:
    return all(instance.tags.get(key) == value for key, value in tags.items())


def _is_within(moment: Millis | None, start: Millis | None, end: Millis | None) -> bool:
    if start is None and end is None:
        return True
    return moment is not None and (start is None or moment >= start) and (end is None or moment < end)


def read_history(state: HubState, instance_id: str, after: int, limit: int) -> HistoryPage:
    """Return a page of the current execution's history."""
    instance = state.instances.get(instance_id)
    if instance is None:
        raise NotFound(f"there is no instance {instance_id!r}")
    first = after + 1
    return HistoryPage(
        events=instance.history[first : first + limit],
        first_seq=first,
        more=first + limit < len(instance.history),
        generation=instance.generation,
        execution=instance.execution,
    )


def count_work(state: HubState, now: Millis) -> HubStats:
    """Count the whole hub."""
    instances = state.instances.values()
    return HubStats(
        instances=Counter(instance.status for instance in instances),
        turns=_queue_stats(((instance.ownership, instance.ready_at()) for instance in instances), now),
        activities=_queue_stats(
            ((activity.ownership, activity.ready_at()) for activity in state.activities.values()), now
        ),
        now=now,
    )


def _queue_stats(items: Iterable[tuple[Ownership, Millis | None]], now: Millis) -> QueueStats:
    ready: list[Millis] = []
    leased = future = 0
    for ownership, ready_at in items:
        if ownership.leased_until() > now:
            leased += 1
        elif ready_at is not None and ready_at > now:
            future += 1
        elif ready_at is not None:
            ready.append(ready_at)
    return QueueStats(
        ready=len(ready),
        leased=leased,
        future=future,
        oldest_ready_age_ms=now - min(ready) if ready else None,
    )
