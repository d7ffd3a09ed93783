"""What reads and what purges: both take the same filters."""

from __future__ import annotations

from typing import Final

from perdure.spi.capabilities import Capabilities, Limits
from perdure.spi.checks.values import (
    MAX_INT,
    check_batch,
    check_id,
    check_ids,
    check_int,
    check_names,
    check_tags,
    check_text,
)
from perdure.spi.errors import InvalidRequest, Unsupported
from perdure.spi.records import InstanceQuery, PurgeRequest

__all__ = [
    "TIME_FILTERS",
    "check_history_request",
    "check_purge",
    "check_query",
]

TIME_FILTERS: Final = (
    "created_from",
    "created_to",
    "updated_from",
    "updated_to",
    "completed_from",
    "completed_to",
)
"""Names of the filters that are times."""


def check_history_request(instance: str, after: int, limit: int, limits: Limits) -> None:
    """Check what `read_history` was given.

    Raises:
        BadId: the instance's id is malformed.
        InvalidRequest: a `limit` under 1, or `after` under -1.
    """
    check_id(instance, limits, "instance")
    check_int(after, "after", least=-1)
    check_int(limit, "limit", least=1)


def check_query(query: InstanceQuery, limits: Limits, capabilities: Capabilities) -> None:
    """Check a query, its cursor apart (see `decode_cursor`).

    Raises:
        BadId: a text in it could never be stored.
        InvalidRequest: a `page_size` under 1, or a time that is no 64-bit integer.
        Unsupported: it filters by tags, and `tag_query` is not declared.
    """
    check_int(query.page_size, "page_size", least=1)
    if query.tags is not None and not capabilities.tag_query:
        raise Unsupported("tag_query")
    check_names(query.names, limits, "names")
    check_names(query.statuses, limits, "statuses")
    if isinstance(query.versions, str):
        raise InvalidRequest("versions must be a collection of texts, not one text")
    for version in query.versions or ():
        if version is not None:
            check_text(version, limits, "version")
    if query.id_prefix is not None:
        check_text(query.id_prefix, limits, "id_prefix")
    if query.parent is not None:
        check_id(query.parent, limits, "parent")
    check_tags(query.tags or {}, limits)
    for what in TIME_FILTERS:
        time = getattr(query, what)
        if time is not None:
            check_int(time, what, least=-MAX_INT)


def check_purge(request: PurgeRequest, limits: Limits, capabilities: Capabilities) -> None:
    """Check a purge.

    Raises:
        BadId: an id is malformed.
        InvalidRequest: not exactly one of `ids` and `query`, too many ids, a negative limit or budget.
        Unsupported: `cascade`, or a filter by tags, where it is not declared.
    """
    if (request.ids is None) == (request.query is None):
        raise InvalidRequest("a purge needs either ids or a query, and not both")
    if request.cascade and not capabilities.purge_cascade:
        raise Unsupported("purge_cascade")
    if request.ids is not None:
        check_batch(request.ids, limits, "ids")
        check_ids(request.ids, limits)
    if request.query is not None:
        check_query(request.query, limits, capabilities)
    if request.limit is not None:
        check_int(request.limit, "limit")
    if request.budget_ms is not None:
        check_int(request.budget_ms, "budget_ms")
