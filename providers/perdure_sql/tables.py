"""The tables of a SQL store.

An instance has an integer key that is never used twice, and everything of it hangs on that key. So what was meant
for a purged or replaced incarnation finds nothing, and no row below an instance repeats its hub and id.

The hot row of an instance holds no payload: claiming, renewing and releasing rewrite it, and a row with a
megabyte of input in it would be copied whole each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Computed,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

__all__ = ["Tables"]

# SQLite gives out row ids by itself only to a column whose type is spelled INTEGER.
_KEY = BigInteger().with_variant(Integer(), "sqlite")


def _int(name: str, *, null: bool = False, **options: Any) -> Column[int]:
    return Column(name, BigInteger().with_variant(Integer(), "sqlite"), nullable=null, **options)


class Tables:
    """The tables, in a spelling that one database understands.

    Args:
        greatest: the database's function for the largest of its arguments, none of them NULL.
        within: makes the condition that a column has one of many values, however many.
        collation: the collation that compares ids byte by byte; None where that is the default.
        schema: where the tables are; None where the database has no schemas.
        tie: what stands last in an index by which claims go on: those that became available together come in this
            order. None where every index ends with the key by itself.
        stored: whether computed columns must be stored for an index on them; None where that doesn't matter.
        numbered: whether the database gives hubs and instances their keys; if not, the provider does.
    """

    def __init__(
        self,
        *,
        greatest: str,
        within: Callable[[ColumnElement[Any], Sequence[str]], ColumnElement[bool]],
        collation: str | None = None,
        schema: str | None = None,
        tie: str | None = None,
        stored: bool | None = None,
        numbered: bool = True,
    ) -> None:
        self.within = within
        last = () if tie is None else (tie,)

        def words(name: str, *, null: bool = False, key: bool = False) -> Column[str]:
            return Column(name, Text(collation=collation), nullable=null, primary_key=key)

        def blob(name: str, *, null: bool = True) -> Column[bytes]:
            return Column(name, LargeBinary(), nullable=null)

        def owner() -> Column[int]:
            return Column("instance", _KEY, primary_key=True, autoincrement=False)

        def computed(due: str, *others: str) -> Computed:
            largest = f"{greatest}({', '.join((due, *others))})"
            return Computed(f"CASE WHEN {due} IS NULL THEN NULL ELSE {largest} END", persisted=stored)

        metadata = MetaData(schema=schema)
        self.metadata = metadata

        self.hubs = Table(
            "perdure_hubs",
            metadata,
            Column("key", _KEY, primary_key=True, autoincrement=numbered),
            words("name"),
            Index("perdure_hubs_name", "name", unique=True),
            sqlite_autoincrement=True,
        )

        self.instances = Table(
            "perdure_instances",
            metadata,
            Column("key", _KEY, primary_key=True, autoincrement=numbered),
            _int("hub"),
            words("id"),
            words("generation"),
            words("name"),
            words("version", null=True),
            words("parent", null=True),
            # As JSON text for readers; the tags table is for finding.
            Column("tags", Text(), nullable=True),
            _int("created_at"),
            Column("status", Text(), nullable=False),
            _int("execution"),
            _int("next_seq"),
            _int("rev"),
            _int("status_rev"),
            _int("updated_at"),
            _int("completed_at", null=True),
            words("commit_id", null=True),
            # The lease. `lease_until` is 0 where there is none.
            Column("token", Text(), nullable=True),
            _int("fence"),
            _int("lease_until"),
            _int("hidden_until"),
            _int("attempt"),
            # When the start, the earliest message and the earliest control message are due; NULL for none.
            _int("start_due", null=True),
            _int("inbox_due", null=True),
            _int("control_due", null=True),
            # The latest stored due of a message sent for now: the next one is stored no earlier.
            _int("order_due"),
            _int("arrivals"),
            _int("pending"),
            # What the last claim delivered: a prefix of the inbox up to (due, seq), of what had arrived by
            # then. `seen_kinds`: 0 control messages alone, 1 all, 2 control messages and the start.
            _int("seen_due"),
            _int("seen_seq"),
            _int("seen_arrivals"),
            _int("seen_kinds"),
            # Computed by the database, so that no writer can forget to keep them true.
            Column(
                "available_at",
                BigInteger().with_variant(Integer(), "sqlite"),
                computed("coalesce(start_due, inbox_due)", "lease_until", "hidden_until"),
            ),
            Column(
                "control_at",
                BigInteger().with_variant(Integer(), "sqlite"),
                computed("control_due", "lease_until"),
            ),
            Index("perdure_instances_id", "hub", "id", unique=True),
            Index("perdure_instances_created", "hub", "created_at", "id"),
            # With the order of pages, or a planner without statistics takes the index that has only that.
            _partial("perdure_instances_parent", "hub", "parent", "created_at", "id", where="parent IS NOT NULL"),
            _partial("perdure_instances_ready", "hub", "name", "available_at", *last, where="available_at IS NOT NULL"),
            _partial("perdure_instances_control", "hub", "control_at", *last, where="control_at IS NOT NULL"),
            sqlite_autoincrement=True,
        )

        # Written at creation and at continue-as-new only.
        self.inputs = Table("perdure_inputs", metadata, owner(), blob("input"), blob("start"))

        # Missing until a commit sets one of them.
        self.states = Table(
            "perdure_states",
            metadata,
            owner(),
            blob("output"),
            blob("custom_status"),
            blob("failure"),
            blob("memo"),
        )

        self.tags = Table(
            "perdure_tags",
            metadata,
            owner(),
            words("name", key=True),
            words("value"),
            Index("perdure_tags_value", "name", "value", "instance"),
            sqlite_with_rowid=False,
        )

        self.inbox = Table(
            "perdure_inbox",
            metadata,
            owner(),
            Column("due", _KEY, primary_key=True, autoincrement=False),
            Column("seq", _KEY, primary_key=True, autoincrement=False),
            words("id"),
            _int("enqueued_at"),
            _int("control"),
            _int("client"),
            blob("payload", null=False),
            Index("perdure_inbox_id", "instance", "id", unique=True),
            _partial("perdure_inbox_control", "instance", "control", "due", where="control = 1"),
            sqlite_with_rowid=False,
        )

        # Ids of consumed client messages, until they may be sent anew.
        self.remembered = Table(
            "perdure_remembered",
            metadata,
            owner(),
            words("id", key=True),
            # So that a hub finds what it may forget, and no other's.
            _int("hub"),
            _int("until"),
            Index("perdure_remembered_until", "hub", "until"),
            sqlite_with_rowid=False,
        )

        # One row a turn: the events of a commit, framed (see history.py).
        self.history = Table(
            "perdure_history",
            metadata,
            owner(),
            Column("first_seq", _KEY, primary_key=True, autoincrement=False),
            _int("count"),
            blob("events", null=False),
            sqlite_with_rowid=False,
        )

        self.activities = Table(
            "perdure_activities",
            metadata,
            Column("key", _KEY, primary_key=True),
            _int("hub"),
            _int("instance"),
            words("id"),
            words("name"),
            words("queue"),
            _int("due"),
            Column("token", Text(), nullable=True),
            _int("fence"),
            _int("lease_until"),
            _int("hidden_until"),
            _int("attempt"),
            blob("payload", null=False),
            Column(
                "available_at",
                BigInteger().with_variant(Integer(), "sqlite"),
                Computed(f"{greatest}(due, lease_until, hidden_until)", persisted=stored),
            ),
            Index("perdure_activities_id", "instance", "id", unique=True),
            Index("perdure_activities_ready", "hub", "queue", "name", "available_at", *last),
            sqlite_autoincrement=True,
        )


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))
