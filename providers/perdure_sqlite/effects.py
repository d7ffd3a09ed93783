"""The statements with which an operation reads what it touches and writes what it decided."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

from sqlalchemy import bindparam, case, delete, func, literal_column, select, update
from sqlalchemy.dialects.sqlite import insert

from perdure_sql import Tables
from perdure_sqlite.rows import HOT
from perdure_sqlite.statements import ONE, TABLES, each, insert_into, number, plain, sql, words

_FIXED: Final = ("key", "id", "generation", "name")
_CHANGING: Final = tuple(name for name in HOT if name not in _FIXED)

_instances, _inbox, _activities = TABLES.instances, TABLES.inbox, TABLES.activities
_remembered, _history, _inputs, _states = TABLES.remembered, TABLES.history, TABLES.inputs, TABLES.states
_columns = [_instances.c[name] for name in HOT]
_listed = select(each("list_").c.value)

ROWS_BY_KEY = sql(
    select(*_columns).where(_instances.c.key.in_(_listed), plain(_instances.c.hub) == number("hub")), "list_", "hub"
)
ROWS_BY_ID = sql(
    select(*_columns).where(_instances.c.hub == number("hub"), _instances.c.id.in_(_listed)), "hub", "list_"
)

# Pairs come as one array of arrays of two. They are joined and not compared by IN: for that SQLite would
# use the first of the two columns alone.
_pair = each("pairs", "pair")


def _paired(table: Any) -> Any:
    first, second = (func.json_extract(_pair.c.value, literal_column(f"'$[{place}]'")) for place in (0, 1))
    return _pair.join(table, (table.c.instance == first) & (table.c.id == second))


HEADERS = sql(
    select(*(_inbox.c[name] for name in ("instance", "id", "due", "seq", "control", "client"))).select_from(
        _paired(_inbox)
    ),
    "pairs",
)
REMEMBERED = sql(
    select(_remembered.c.instance, _remembered.c.id)
    .select_from(_paired(_remembered))
    .where(_remembered.c.until > number("now")),
    "pairs",
    "now",
)
ACTIVITY_IDS = sql(select(_activities.c.id).where(_activities.c.instance == number("instance")), "instance")
LAST_KEY = "SELECT seq FROM sqlite_sequence WHERE name = 'perdure_instances'"

UPDATE_ROW = sql(
    update(_instances)
    .where(_instances.c.key == number("where_key"))
    .values({name: bindparam(f"set_{name}") for name in _CHANGING}),
    *(f"set_{name}" for name in _CHANGING),
    "where_key",
)
update_values = attrgetter(*_CHANGING, "key")
"""Of a row, what `UPDATE_ROW` takes."""

_before, _after = ("key",), ("id", "generation", "name", "version")
_behind = HOT[HOT.index("status") :]
INSERT_ROW = insert_into(_instances, *_before, "hub", *_after, "parent", "tags", "created_at", *_behind)
_names_of, _state_of = attrgetter(*_after), attrgetter(*_behind)


def insert_values(row: Any, hub: int, parent: str | None, tags: str | None, created_at: int) -> tuple[object, ...]:
    """Return what `INSERT_ROW` takes."""
    return (row.key, hub, *_names_of(row), parent, tags, created_at, *_state_of(row))


INSERT_INPUT = insert_into(_inputs, "instance", "input", "start")
INSERT_TAG = insert_into(TABLES.tags, "instance", "name", "value")
INSERT_MESSAGE = insert_into(_inbox, "instance", "due", "seq", "id", "enqueued_at", "control", "client", "payload")
INSERT_HISTORY = insert_into(_history, "instance", "first_seq", "count", "events")
# Scheduled again, an activity that exists is left as it is.
INSERT_ACTIVITY = insert_into(
    _activities,
    *("hub", "instance", "id", "name", "queue", "due", "fence", "lease_until", "hidden_until", "attempt", "payload"),
    prefix="OR IGNORE",
)
REMEMBER = insert_into(_remembered, "instance", "id", "hub", "until", prefix="OR REPLACE")
SET_INPUT = sql(
    update(_inputs).where(_inputs.c.instance == number("where_key")).values(input=bindparam("set_input")),
    "set_input",
    "where_key",
)

STATE_FIELDS: Final = ("output", "custom_status", "failure", "memo")
_state = insert(_states).values(
    instance=bindparam("instance"), **{name: bindparam(f"set_{name}") for name in STATE_FIELDS}
)
SET_STATE = sql(
    _state.on_conflict_do_update(
        index_elements=["instance"],
        set_={
            name: case((number(f"has_{name}"), _state.excluded[name]), else_=_states.c[name]) for name in STATE_FIELDS
        },
    ),
    "instance",
    *(f"set_{name}" for name in STATE_FIELDS),
    *(f"has_{name}" for name in STATE_FIELDS),
)


def state_values(key: int, state: dict[str, bytes | None]) -> tuple[object, ...]:
    """Return what `SET_STATE` takes: a value for each field, and whether it is to be set."""
    values = [state.get(name) for name in STATE_FIELDS]
    return (key, *values, *[name in state for name in STATE_FIELDS])


def _all_of(tables: Tables, name: str) -> str:
    table = tables.metadata.tables[f"perdure_{name}"]
    return sql(delete(table).where(table.c.instance == number("instance")), "instance")


WIPE_INBOX = _all_of(TABLES, "inbox")
WIPE_ACTIVITIES = _all_of(TABLES, "activities")
WIPE_HISTORY = _all_of(TABLES, "history")
WIPE_INSTANCE: Final = (
    *(_all_of(TABLES, name) for name in ("inbox", "activities", "history", "remembered", "inputs", "states", "tags")),
    sql(delete(_instances).where(_instances.c.key == number("key")), "key"),
)
"""Each takes an instance's key; together they leave nothing of it."""

DELETE_MESSAGE = sql(
    delete(_inbox).where(
        _inbox.c.instance == number("instance"), _inbox.c.due == number("due"), _inbox.c.seq == number("seq")
    ),
    "instance",
    "due",
    "seq",
)
DELETE_ACTIVITY = sql(
    delete(_activities).where(_activities.c.instance == number("instance"), _activities.c.id == words("id")),
    "instance",
    "id",
)
SETTLE = sql(
    delete(_activities).where(
        _activities.c.key == number("key"),
        _activities.c.token == words("token"),
        _activities.c.instance == number("instance"),
    ),
    "key",
    "token",
    "instance",
)

_rest = each("list_", "rest")


def _earliest(*conditions: Any) -> Any:
    found = select(func.min(_inbox.c.due)).where(_inbox.c.instance == _rest.c.value, *conditions)
    return found.correlate(_rest).scalar_subquery()


EARLIEST = sql(select(_rest.c.value, _earliest(), _earliest(_inbox.c.control == ONE)).select_from(_rest), "list_")
"""By instance: when the earliest of its messages is due, and the earliest control message."""
