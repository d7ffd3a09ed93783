"""Queries over instances: filters, keyset pages, and what a reader sees of a row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, func, literal, null, or_, select, tuple_

from perdure.spi import Fields, InstanceInfo, InstanceQuery, OrchestrationStatus
from perdure_sql.tables import Tables

__all__ = ["INFO_COLUMNS", "info_select", "instance_page", "matching_ids", "to_info"]

INFO_COLUMNS: Final = (
    "id",
    "generation",
    "name",
    "version",
    "status",
    "execution",
    "created_at",
    "updated_at",
    "completed_at",
    "rev",
    "status_rev",
    "parent",
    "tags",
    "next_seq",
)

_STATUSES: Final = {status.value: status for status in OrchestrationStatus}
_ENDED: Final = tuple(status for status in OrchestrationStatus if status.is_terminal)


def info_select(tables: Tables, fields: Fields) -> Select[Any]:
    """Return a select of what `to_info` takes, without conditions."""
    instances, inputs, states = tables.instances, tables.inputs, tables.states
    source = instances
    joined: Any = source
    if fields & Fields.INPUT:
        joined = joined.outerjoin(inputs, inputs.c.instance == instances.c.key)
    if fields & (Fields.OUTPUT | Fields.CUSTOM_STATUS | Fields.FAILURE):
        joined = joined.outerjoin(states, states.c.instance == instances.c.key)
    return select(
        *(instances.c[name] for name in INFO_COLUMNS),
        inputs.c.input if fields & Fields.INPUT else null().label("input"),
        states.c.output if fields & Fields.OUTPUT else null().label("output"),
        states.c.custom_status if fields & Fields.CUSTOM_STATUS else null().label("custom_status"),
        states.c.failure if fields & Fields.FAILURE else null().label("failure"),
    ).select_from(joined)


def to_info(row: Sequence[Any]) -> InstanceInfo:
    """Make an `InstanceInfo` of a row of `info_select`; later columns are not looked at."""
    tags = row[12]
    return InstanceInfo(
        id=row[0],
        generation=row[1],
        name=row[2],
        version=row[3],
        status=_STATUSES[row[4]],
        execution=row[5],
        created_at=row[6],
        updated_at=row[7],
        completed_at=row[8],
        rev=row[9],
        status_rev=row[10],
        parent=row[11],
        tags={} if tags is None else json.loads(tags),
        next_seq=row[13],
        input=row[14],
        output=row[15],
        custom_status=row[16],
        failure=row[17],
    )


def instance_page(
    tables: Tables, hub: int, query: InstanceQuery, behind: tuple[int, str] | None, limit: int
) -> Select[Any]:
    """Return the select of at most `limit` instances that match, in order, from behind (created_at, id) on."""
    statement = info_select(tables, query.fields).where(*_conditions(tables, hub, query))
    return _page(tables, statement, behind, limit, descending=query.descending)


def matching_ids(
    tables: Tables, hub: int, query: InstanceQuery, behind: tuple[int, str] | None, limit: int, *, ended: bool
) -> Select[Any]:
    """Return the select of (created_at, id) of instances that match; with `ended` of finished ones only."""
    columns = tables.instances.c
    statement = select(columns.created_at, columns.id).where(*_conditions(tables, hub, query))
    if ended:
        statement = statement.where(columns.status.in_([str(status) for status in _ENDED]))
    # Where others write at the same time, what matches must still do so when it is deleted.
    statement = statement.with_for_update(of=tables.instances)
    return _page(tables, statement, behind, limit, descending=False)


def _page(
    tables: Tables, statement: Select[Any], behind: tuple[int, str] | None, limit: int, *, descending: bool
) -> Select[Any]:
    columns = tables.instances.c
    place = tuple_(columns.created_at, columns.id)
    if behind is not None:
        start = tuple_(literal(behind[0], BigInteger()), literal(behind[1]))
        statement = statement.where(place < start if descending else place > start)
    if descending:
        return statement.order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
    return statement.order_by(columns.created_at, columns.id).limit(limit)


def _conditions(tables: Tables, hub: int, query: InstanceQuery) -> list[ColumnElement[bool]]:
    columns = tables.instances.c
    found: list[ColumnElement[bool]] = [columns.hub == hub]
    if query.statuses is not None:
        found.append(tables.within(columns.status, [str(status) for status in query.statuses]))
    if query.names is not None:
        found.append(tables.within(columns.name, list(query.names)))
    if query.versions is not None:
        # NULL is not IN anything.
        known = tables.within(columns.version, [version for version in query.versions if version is not None])
        found.append(or_(known, columns.version.is_(None)) if None in query.versions else known)
    if query.id_prefix:
        # By range for the index, by substring for the rest: no upper bound can be written for a
        # prefix that ends in the last code point. LIKE would take % and _ for more than they are.
        found.append(columns.id >= query.id_prefix)
        found.append(func.substr(columns.id, 1, len(query.id_prefix)) == query.id_prefix)
    if query.parent is not None:
        found.append(columns.parent == query.parent)
    for name, value in (query.tags or {}).items():
        tags = tables.tags.c
        found.append(columns.key.in_(select(tags.instance).where(tags.name == name, tags.value == value)))
    for column, start, end in (
        (columns.created_at, query.created_from, query.created_to),
        (columns.updated_at, query.updated_from, query.updated_to),
        (columns.completed_at, query.completed_from, query.completed_to),
    ):
        if start is not None:
            found.append(column >= start)
        if end is not None:
            found.append(column < end)
    return found
