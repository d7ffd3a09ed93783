"""What an operation may write, as data: each provider compiles it into statements for many rows at once."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Literal

from perdure_sql.rows import HOT

__all__ = ["ALL", "Effect", "insert_values", "state_values", "update_values"]


# Compared as objects: each is a key to statements thousands of times a second.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Effect:
    """One kind of change. A row of it holds the values of `columns`, then those of `where`.

    Only `set` has them the other way round, and at the end for each of `columns` whether it is to be written.
    """

    kind: Literal["insert", "update", "delete", "set"]
    """`set` writes some columns of a row that may not be there yet."""
    table: str
    """Without the prefix."""
    columns: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    """Columns whose values find the row."""
    known: Literal["error", "keep", "replace"] = "error"
    """What an insert does about a row that is there already."""


_FIXED: Final = ("key", "id", "generation", "name")
_CHANGING: Final = tuple(name for name in HOT if name not in _FIXED)
_BEFORE, _AFTER = ("key",), ("id", "generation", "name", "version")
_BEHIND: Final = HOT[HOT.index("status") :]

INSERT_ROW: Final = Effect(
    kind="insert",
    table="instances",
    columns=(*_BEFORE, "hub", *_AFTER, "parent", "tags", "created_at", *_BEHIND),
)
UPDATE_ROW: Final = Effect(kind="update", table="instances", columns=_CHANGING, where=("key",))
LEASE_TURN: Final = Effect(
    kind="update",
    table="instances",
    columns=(
        *("token", "fence", "lease_until", "hidden_until", "attempt"),
        *("seen_due", "seen_seq", "seen_arrivals", "seen_kinds"),
    ),
    where=("key",),
)

INSERT_INPUT: Final = Effect(kind="insert", table="inputs", columns=("instance", "input", "start"))
SET_INPUT: Final = Effect(kind="update", table="inputs", columns=("input",), where=("instance",))
INSERT_TAG: Final = Effect(kind="insert", table="tags", columns=("instance", "name", "value"))
SET_STATE: Final = Effect(
    kind="set", table="states", columns=("output", "custom_status", "failure", "memo"), where=("instance",)
)

INSERT_MESSAGE: Final = Effect(
    kind="insert",
    table="inbox",
    columns=("instance", "due", "seq", "id", "enqueued_at", "control", "client", "payload"),
)
DELETE_MESSAGE: Final = Effect(kind="delete", table="inbox", where=("instance", "due", "seq"))
REMEMBER: Final = Effect(kind="insert", table="remembered", columns=("instance", "id", "hub", "until"), known="replace")
FORGET: Final = Effect(kind="delete", table="remembered", where=("instance", "id"))

INSERT_HISTORY: Final = Effect(kind="insert", table="history", columns=("instance", "first_seq", "count", "events"))

# Scheduled again, an activity that exists is left as it is.
INSERT_ACTIVITY: Final = Effect(
    kind="insert",
    table="activities",
    columns=(
        *("hub", "instance", "id", "name", "queue", "due", "fence", "lease_until", "hidden_until", "attempt"),
        "payload",
    ),
    known="keep",
)
LEASE_ACTIVITY: Final = Effect(
    kind="update",
    table="activities",
    columns=("token", "fence", "lease_until", "hidden_until", "attempt"),
    where=("key",),
)
UPDATE_ACTIVITY: Final = Effect(
    kind="update", table="activities", columns=("token", "lease_until", "hidden_until", "attempt"), where=("key",)
)
COMPLETE: Final = Effect(kind="delete", table="activities", where=("key",))
DELETE_ACTIVITY: Final = Effect(kind="delete", table="activities", where=("instance", "id"))
SETTLE: Final = Effect(kind="delete", table="activities", where=("key", "token", "instance"))

WIPE_INBOX: Final = Effect(kind="delete", table="inbox", where=("instance",))
WIPE_ACTIVITIES: Final = Effect(kind="delete", table="activities", where=("instance",))
WIPE_HISTORY: Final = Effect(kind="delete", table="history", where=("instance",))
WIPE_INSTANCE: Final = (
    WIPE_INBOX,
    WIPE_ACTIVITIES,
    WIPE_HISTORY,
    *(Effect(kind="delete", table=name, where=("instance",)) for name in ("remembered", "inputs", "states", "tags")),
    Effect(kind="delete", table="instances", where=("key",)),
)
"""Each takes an instance's key; together they leave nothing of it."""

ALL: Final = (
    *(INSERT_ROW, UPDATE_ROW, LEASE_TURN, INSERT_INPUT, SET_INPUT, INSERT_TAG, SET_STATE),
    *(INSERT_MESSAGE, DELETE_MESSAGE, REMEMBER, FORGET, INSERT_HISTORY),
    *(INSERT_ACTIVITY, LEASE_ACTIVITY, UPDATE_ACTIVITY, COMPLETE, DELETE_ACTIVITY, SETTLE),
    *WIPE_INSTANCE,
)

_names_of, _state_of = attrgetter(*_AFTER), attrgetter(*_BEHIND)

update_values = attrgetter(*_CHANGING, "key")
"""Of an `InstanceRow`, what `UPDATE_ROW` takes."""


def insert_values(row: Any, hub: int, parent: str | None, tags: str | None, created_at: int) -> tuple[object, ...]:
    """Return what `INSERT_ROW` takes."""
    return (row.key, hub, *_names_of(row), parent, tags, created_at, *_state_of(row))


def state_values(key: int, state: dict[str, bytes | None]) -> tuple[object, ...]:
    """Return what `SET_STATE` takes: the key, a value for each field, and whether each is to be set."""
    values = [state.get(name) for name in SET_STATE.columns]
    return (key, *values, *[name in state for name in SET_STATE.columns])
