"""Statements, written once for a schema.

Lists come as arrays, unnested: so a call about one item and a call about a thousand send the same statement, and one
kind of change to many rows is one statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from psycopg import sql
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    LargeBinary,
    MetaData,
    Select,
    Text,
    any_,
    bindparam,
    func,
    literal,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.schema import Table

from perdure.spi import Fields
from perdure_postgres.arrays import ARRAYS, Array
from perdure_sql import Tables, info_select
from perdure_sql.effects import ALL, Effect
from perdure_sql.rows import HOT

__all__ = ["DIALECT", "Foreign", "Statements", "compiled", "statements"]

DIALECT: Final = PGDialect_psycopg(paramstyle="pyformat")  # type: ignore[no-untyped-call]  # as it comes


@dataclass(slots=True, frozen=True)
class Foreign:
    """A statement for other people's sessions, whose drivers may know places only, and no names."""

    places: str
    """With `%s` for each value."""
    names: str
    """With `:value0`, `:value1`..., as SQLAlchemy has it."""


def _intake(metadata: MetaData) -> None:
    """Add the table in which callers' transactions put down what is to happen with their commit.

    It refers to nothing and nothing to it, so that a row of a transaction that is still open is in nobody's way.
    """
    Table(
        "perdure_intake",
        metadata,
        Column("seq", BigInteger(), primary_key=True),
        Column("hub", BigInteger(), nullable=False),
        Column("kind", Text(), nullable=False),
        # Whose start it is, or to whom it is sent.
        Column("target", Text(collation="C"), nullable=False),
        # All but the payloads, as JSON.
        Column("body", Text(), nullable=False),
        Column("payload", LargeBinary(), nullable=False),
        Column("input", LargeBinary(), nullable=True),
        Index("perdure_intake_front", "hub", "seq"),
    )


def _within(column: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
    return column == any_(literal(list(values), ARRAY(Text)))


def compiled(statement: Select[Any]) -> tuple[bytes, dict[str, Any]]:
    """Return the text and the values of a statement that is made for one call."""
    found: Any = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    return str(found).encode(), found.construct_params()


@cache
def statements(schema: str) -> Statements:
    """Return the statements for a schema."""
    return Statements(schema)


class Statements:
    """What is sent to the server, by what it is for. Parameters are named in the text.

    Args:
        schema: where the tables are.
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.tables = Tables(
            greatest="greatest", within=_within, collation="C", schema=schema, tie="key", stored=True, numbered=False
        )
        _intake(self.tables.metadata)
        self.effects = {effect: self._effect(effect) for effect in ALL}

        # At the front of every transaction that writes. The lock says that the hub may not be deleted meanwhile. To
        # plan most of these statements takes longer than to run them, and there is but one way to do each: by an index,
        # row by row, however small a table is as yet.
        self.begin = self.text(
            """
            SELECT set_config('lock_timeout', '10s', true),
                   set_config('idle_in_transaction_session_timeout', '60s', true),
                   set_config('plan_cache_mode', 'force_generic_plan', true),
                   set_config('jit', 'off', true),
                   set_config('enable_seqscan', 'off', true),
                   set_config('enable_hashjoin', 'off', true),
                   set_config('enable_mergejoin', 'off', true),
                   set_config('synchronous_commit',
                              CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                              ELSE current_setting('synchronous_commit') END, true),
                   pg_advisory_xact_lock_shared(hashtextextended(%(place)s, 0))
            """
        )
        # What is made for one call may be as different as its values.
        self.plan_anew = self.text("SELECT set_config('plan_cache_mode', 'force_custom_plan', true)")
        self.lock_hub = self.text("SELECT pg_advisory_xact_lock(hashtextextended(%(place)s, 0))")
        self.clock = self.text("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")

        self.create_hub = self.text(
            "INSERT INTO {hubs} (key, name) VALUES (%(key)s, %(name)s) ON CONFLICT (name) DO NOTHING RETURNING key"
        )
        # And whether something waits in the intake, for which nobody should have to ask twice.
        self.find_hub = self.text(
            """
            SELECT h.key, EXISTS (SELECT FROM {intake} AS i WHERE i.hub = h.key) FROM {hubs} AS h
            WHERE h.name = %(name)s
            """
        )
        self.list_hubs = self.text("SELECT name FROM {hubs} ORDER BY name")
        self.wipe_hub = [
            *(
                self.text(
                    f"DELETE FROM {{{name}}} WHERE instance IN (SELECT key FROM {{instances}} WHERE hub = %(hub)s)"
                )
                for name in ("inbox", "history", "remembered", "inputs", "states", "tags")
            ),
            # What a transaction put down that was committed after its hub had gone goes with the next one.
            self.text("DELETE FROM {intake} WHERE hub = %(hub)s OR hub NOT IN (SELECT key FROM {hubs})"),
            self.text("DELETE FROM {activities} WHERE hub = %(hub)s"),
            self.text("DELETE FROM {instances} WHERE hub = %(hub)s"),
            self.text("DELETE FROM {hubs} WHERE key = %(hub)s"),
        ]
        """Each takes a hub's key; together they leave nothing of it."""

        # Keys are handed out in blocks, so that nobody has to ask for each.
        self.key_block = self.text("SELECT nextval({key_blocks})")

        hot = ", ".join(f"i.{name}" for name in HOT)
        # In the order of their keys, as everybody locks them. Who waits here sees what the other wrote. Where keys are
        # listed no index is looked through for the hub, in which there may be anything: hence `+ 0`.
        self.rows = self.text(
            f"""
            SELECT {hot} FROM {{instances}} AS i
            WHERE i.hub + 0 = %(hub)s AND i.key = ANY (ARRAY(
                SELECT unnest(%(keys)s::bigint[])
                UNION SELECT n.key FROM unnest(%(ids)s::text[]) AS p (id)
                JOIN {{instances}} AS n ON n.hub = %(hub)s AND n.id = p.id))
            ORDER BY i.key FOR UPDATE
            """
        )
        # Asked after the locks: an id that was replaced meanwhile has another key now.
        self.keys_of = self.text(
            """
            SELECT n.key FROM unnest(%(ids)s::text[]) AS p (id) JOIN {instances} AS n ON n.hub = %(hub)s AND n.id = p.id
            """
        )
        self.headers = self.text(
            """
            SELECT m.instance, m.id, m.due, m.seq, m.control, m.client
            FROM unnest(%(keys)s::bigint[], %(ids)s::text[]) AS p (instance, id)
            JOIN {inbox} AS m ON m.instance = p.instance AND m.id = p.id
            """
        )
        self.remembered = self.text(
            """
            SELECT r.instance, r.id FROM unnest(%(keys)s::bigint[], %(ids)s::text[]) AS p (instance, id)
            JOIN {remembered} AS r ON r.instance = p.instance AND r.id = p.id
            WHERE r.until > %(now)s
            """
        )
        self.earliest = self.text(
            """
            SELECT p.key, (SELECT min(due) FROM {inbox} WHERE instance = p.key),
                   (SELECT min(due) FROM {inbox} WHERE instance = p.key AND control = 1)
            FROM unnest(%(keys)s::bigint[]) AS p (key)
            """
        )
        self.activity_ids = self.text("SELECT id FROM {activities} WHERE instance = %(instance)s")
        self.activity_rows = self.text(
            """
            SELECT key, token, fence, lease_until, hidden_until, attempt FROM {activities}
            WHERE key = ANY (%(keys)s::bigint[]) AND hub + 0 = %(hub)s ORDER BY key FOR UPDATE
            """
        )
        self._takes_in()
        self._claims(hot)
        self._reads()

    def _takes_in(self) -> None:
        # At most so many, and of those no more than fit into so many bytes, the first always.
        self.intake_front = self.text(
            """
            SELECT seq, kind, target, body, payload, input FROM (
                SELECT *, sum(size) OVER (ORDER BY seq) - size AS before FROM (
                    SELECT *, octet_length(payload) + coalesce(octet_length(input), 0) AS size
                    FROM {intake} WHERE hub = %(hub)s ORDER BY seq LIMIT %(most)s) AS front) AS sized
            WHERE before < %(bytes)s ORDER BY seq
            """
        )
        self.take_in = self.text("DELETE FROM {intake} WHERE hub + 0 = %(hub)s AND seq = ANY (%(seqs)s::bigint[])")
        # These run in sessions of other people's.
        put = """
            INSERT INTO {intake} (hub, kind, target, body, payload, input)
            SELECT h.key, CAST({} AS text), CAST({} AS text), CAST({} AS text), CAST({} AS bytea), CAST({} AS bytea)
            FROM {hubs} AS h WHERE h.key = CAST({} AS bigint) AND h.name = CAST({} AS text) RETURNING seq
            """
        self.put_down = self._foreign(put)
        self.put_down_and_tell = self._foreign(
            f"WITH put AS ({put}) SELECT pg_notify(CAST({{}} AS text), CAST({{}} AS text)) FROM put"
        )
        self.put_down_start = self._foreign(
            "SELECT 1 FROM {intake} WHERE kind = 'start' AND hub = CAST({} AS bigint) AND target = CAST({} AS text) "
            "LIMIT 1"
        )

    def _claims(self, hot: str) -> None:
        # The front of each name's stretch of the index, and nothing behind it. Locked by nobody: it is but a proposal.
        self.turn_candidates = self.text(
            """
            SELECT key FROM (
                SELECT c.key, c.at FROM unnest(%(names)s::text[]) AS n (name) CROSS JOIN LATERAL (
                    SELECT i.key, i.available_at AS at FROM {instances} AS i
                    WHERE i.hub = %(hub)s AND i.name = n.name AND i.available_at <= %(now)s
                    ORDER BY i.available_at, i.key LIMIT %(top)s) AS c
                UNION ALL (
                    SELECT i.key, i.control_at FROM {instances} AS i
                    WHERE i.hub = %(hub)s AND i.control_at <= %(now)s ORDER BY i.control_at, i.key LIMIT %(top)s)
            ) AS found
            WHERE key <> ALL (%(without)s::bigint[])
            GROUP BY key ORDER BY min(at), key LIMIT %(top)s
            """
        )
        self.take_turns = self.text(
            f"""
            SELECT {hot} FROM unnest(%(keys)s::bigint[]) WITH ORDINALITY AS c (key, place)
            JOIN {{instances}} AS i ON i.key = c.key
            WHERE (i.available_at <= %(now)s AND i.name = ANY (%(names)s::text[])) OR i.control_at <= %(now)s
            ORDER BY c.place LIMIT %(most)s FOR UPDATE OF i SKIP LOCKED
            """
        )
        # Without a lower bound: what is available and wasn't taken is somebody else's, or has just come.
        self.next_turn = self.text(
            """
            SELECT min(at) FROM (
                SELECT (SELECT i.available_at FROM {instances} AS i WHERE i.hub = %(hub)s AND i.name = n.name
                        AND i.available_at IS NOT NULL ORDER BY i.available_at LIMIT 1) AS at
                FROM unnest(%(names)s::text[]) AS n (name)
                UNION ALL
                (SELECT i.control_at FROM {instances} AS i WHERE i.hub = %(hub)s AND i.control_at IS NOT NULL
                 ORDER BY i.control_at LIMIT 1)
            ) AS found
            """
        )
        self.turn_names = self.text(
            """
            WITH RECURSIVE found (name) AS (
                (SELECT i.name FROM {instances} AS i
                 WHERE i.hub = %(hub)s AND i.available_at IS NOT NULL ORDER BY i.name LIMIT 1)
                UNION ALL
                SELECT (SELECT i.name FROM {instances} AS i WHERE i.hub = %(hub)s AND i.name > found.name
                        AND i.available_at IS NOT NULL ORDER BY i.name LIMIT 1)
                FROM found WHERE found.name IS NOT NULL
            )
            SELECT name FROM found WHERE name IS NOT NULL
            """
        )
        self.messages = self.text(
            """
            SELECT instance, seq, id, payload, due, enqueued_at, control FROM {inbox}
            WHERE instance = ANY (%(keys)s::bigint[]) AND due <= %(now)s ORDER BY instance, due, seq
            """
        )
        self.first_messages, self.control_messages = (
            self.text(
                "SELECT instance, seq, id, payload, due, enqueued_at, control FROM {inbox} "
                f"WHERE instance = %(key)s {condition} AND due <= %(now)s ORDER BY due, seq LIMIT %(most)s"
            )
            for condition in ("", "AND control = 1")
        )
        self.starts = self.text(
            """
            SELECT n.instance, n.start, i.created_at FROM {inputs} AS n JOIN {instances} AS i ON i.key = n.instance
            WHERE n.instance = ANY (%(keys)s::bigint[])
            """
        )
        self.states = self.text(
            "SELECT instance, custom_status, memo FROM {states} WHERE instance = ANY (%(keys)s::bigint[])"
        )
        self.histories = self.text(
            """
            SELECT instance, first_seq, count, events FROM {history}
            WHERE instance = ANY (%(keys)s::bigint[]) ORDER BY instance, first_seq
            """
        )
        self.activity_candidates = self.text(
            """
            SELECT c.key FROM unnest(%(queues)s::text[]) AS q (queue) CROSS JOIN unnest(%(names)s::text[]) AS n (name)
            CROSS JOIN LATERAL (
                SELECT a.key, a.available_at FROM {activities} AS a
                WHERE a.hub = %(hub)s AND a.queue = q.queue AND a.name = n.name AND a.available_at <= %(now)s
                ORDER BY a.available_at, a.key LIMIT %(top)s) AS c
            WHERE c.key <> ALL (%(without)s::bigint[])
            ORDER BY c.available_at, c.key LIMIT %(top)s
            """
        )
        self.take_activities = self.text(
            """
            SELECT a.key, a.id, a.name, a.payload, a.queue, a.fence, a.attempt, i.id, i.generation
            FROM unnest(%(keys)s::bigint[]) WITH ORDINALITY AS c (key, place)
            JOIN {activities} AS a ON a.key = c.key JOIN {instances} AS i ON i.key = a.instance
            WHERE a.available_at <= %(now)s ORDER BY c.place LIMIT %(most)s FOR UPDATE OF a SKIP LOCKED
            """
        )
        self.next_activity = self.text(
            """
            SELECT min(at) FROM (
                SELECT (SELECT a.available_at FROM {activities} AS a WHERE a.hub = %(hub)s AND a.queue = q.queue
                        AND a.name = n.name ORDER BY a.available_at LIMIT 1) AS at
                FROM unnest(%(queues)s::text[]) AS q (queue) CROSS JOIN unnest(%(names)s::text[]) AS n (name)
            ) AS found
            """
        )
        self.activity_names = self.text(
            """
            WITH RECURSIVE found (queue, name) AS (
                SELECT q.queue, (SELECT a.name FROM {activities} AS a WHERE a.hub = %(hub)s AND a.queue = q.queue
                                 ORDER BY a.name LIMIT 1)
                FROM unnest(%(queues)s::text[]) AS q (queue)
                UNION ALL
                SELECT found.queue, (SELECT a.name FROM {activities} AS a WHERE a.hub = %(hub)s
                                     AND a.queue = found.queue AND a.name > found.name ORDER BY a.name LIMIT 1)
                FROM found WHERE found.name IS NOT NULL
            )
            SELECT DISTINCT name FROM found WHERE name IS NOT NULL
            """
        )
        self.family = self.text(
            """
            WITH RECURSIVE family (id) AS (
                SELECT %(id)s::text COLLATE "C"
                UNION
                SELECT i.id FROM family JOIN {instances} AS i ON i.hub = %(hub)s AND i.parent = family.id
            )
            SELECT id FROM family
            """
        )
        self.forgettable = self.text(
            """
            SELECT instance, id FROM {remembered} WHERE hub = %(hub)s AND until <= %(now)s
            ORDER BY until LIMIT %(most)s FOR UPDATE SKIP LOCKED
            """
        )

    def _reads(self) -> None:
        self.history_head = self.text(
            "SELECT key, generation, execution, next_seq FROM {instances} WHERE hub = %(hub)s AND id = %(id)s"
        )
        self.history_rows = self.text(
            """
            SELECT first_seq, count, events FROM {history}
            WHERE instance = %(key)s AND first_seq < %(end)s AND first_seq >= coalesce(
                (SELECT max(first_seq) FROM {history} WHERE instance = %(key)s AND first_seq <= %(first)s), %(first)s)
            ORDER BY first_seq
            """
        )
        self.status_counts = self.text("SELECT status, count(*) FROM {instances} WHERE hub = %(hub)s GROUP BY status")
        # Leased means under an unexpired lease, whether or not work waits; what else waits is ready or will be.
        self.turn_queue = self.text(
            """
            SELECT count(*) FILTER (WHERE lease_until > %(now)s),
                   count(*) FILTER (WHERE lease_until <= %(now)s AND ready_at <= %(now)s),
                   count(*) FILTER (WHERE lease_until <= %(now)s AND ready_at > %(now)s),
                   min(ready_at) FILTER (WHERE lease_until <= %(now)s AND ready_at <= %(now)s)
            FROM (SELECT lease_until, least(available_at, control_at) AS ready_at FROM {instances}
                  WHERE hub = %(hub)s AND (available_at IS NOT NULL OR lease_until > %(now)s)) AS waiting
            """
        )
        self.activity_queue = self.text(
            """
            SELECT count(*) FILTER (WHERE lease_until > %(now)s),
                   count(*) FILTER (WHERE lease_until <= %(now)s AND available_at <= %(now)s),
                   count(*) FILTER (WHERE lease_until <= %(now)s AND available_at > %(now)s),
                   min(available_at) FILTER (WHERE lease_until <= %(now)s AND available_at <= %(now)s)
            FROM {activities} WHERE hub = %(hub)s
            """
        )

    @cache  # noqa: B019 - there is one of these for each schema, kept for ever
    def infos(self, fields: Fields) -> bytes:
        """Return the select of `info_select` for the ids `ids` of the hub `hub`."""
        columns = self.tables.instances.c
        asked = func.unnest(bindparam("ids", type_=ARRAY(Text))).table_valued("id", name="asked").render_derived()
        found = info_select(self.tables, fields).join(asked, columns.id == asked.c.id)
        return str(found.where(columns.hub == bindparam("hub", type_=BigInteger())).compile(dialect=DIALECT)).encode()

    def text(self, text: str) -> bytes:
        """Return a statement in which tables stand as `{instances}`."""
        return sql.SQL(text).format(**self._names()).as_bytes()

    def _foreign(self, text: str) -> Foreign:
        """Return a statement in which values stand as `{}` and tables as in `text`."""
        count = text.count("{}")
        blank = sql.SQL(text).format(*(sql.SQL("{}") for _ in range(count)), **self._names()).as_string()
        return Foreign(
            places=blank.format(*["%s"] * count),
            names=blank.replace(":", "\\:").format(*(f":value{place}" for place in range(count))),
        )

    def _names(self) -> dict[str, sql.Composable]:
        names: dict[str, sql.Composable] = {
            table.name.removeprefix("perdure_"): sql.Identifier(self.schema, table.name)
            for table in self.tables.metadata.sorted_tables
        }
        names["key_blocks"] = sql.Literal(sql.Identifier(self.schema, "perdure_key_blocks").as_string())
        return names

    def _effect(self, effect: Effect) -> tuple[bytes, list[type[Array]]]:
        """Compile a kind of change; its parameters are the columns of the rows, each as an array of the kind given."""
        table = self.tables.metadata.tables[f"{self.schema}.perdure_{effect.table}"]
        name = f"{{{effect.table}}}"
        order = {
            "insert": effect.columns,
            "delete": effect.where,
            "update": (*effect.columns, *effect.where),
            "set": (*effect.where, *effect.columns),
        }[effect.kind]
        types = [_type(table.c[column]) for column in order]
        if effect.kind == "set":
            types += ["boolean" for _ in effect.columns]
        arrays = ", ".join(f"%s::{type_}[]" for type_ in types)
        if effect.kind == "insert":
            known = {"error": "", "keep": "ON CONFLICT DO NOTHING", "replace": _replacing(table, effect)}[effect.known]
            # In the order given: keys that the server makes grow with it.
            text = f"""
                INSERT INTO {name} ({", ".join(effect.columns)})
                SELECT {", ".join(f"v.{column}" for column in effect.columns)}
                FROM unnest({arrays}) WITH ORDINALITY AS v ({", ".join(effect.columns)}, place)
                ORDER BY v.place {known}
            """
        elif effect.kind == "delete":
            text = f"""
                DELETE FROM {name} AS t USING unnest({arrays}) AS v ({_places(effect.where)})
                WHERE {_found(effect.where)}
            """
        elif effect.kind == "update":
            text = f"""
                UPDATE {name} AS t SET {", ".join(f"{column} = v.{column}" for column in effect.columns)}
                FROM unnest({arrays}) AS v ({", ".join(effect.columns)}, {_places(effect.where)})
                WHERE {_found(effect.where)}
            """
        else:
            changes = (f"{item} = CASE WHEN v.has_{item} THEN v.{item} ELSE t.{item} END" for item in effect.columns)
            text = f"""
                WITH v AS (
                    SELECT * FROM unnest({arrays}) AS v ({_places(effect.where)}, {", ".join(effect.columns)},
                          {", ".join(f"has_{column}" for column in effect.columns)})
                ), known AS (
                    UPDATE {name} AS t SET {", ".join(changes)}
                    FROM v WHERE {_found(effect.where)} RETURNING {", ".join(f"t.{column}" for column in effect.where)}
                )
                INSERT INTO {name} ({", ".join((*effect.where, *effect.columns))})
                SELECT {_places(effect.where, "v.")}, {", ".join(f"v.{column}" for column in effect.columns)} FROM v
                WHERE NOT EXISTS (SELECT FROM known AS t WHERE {_found(effect.where)})
            """
        return self.text(text), [ARRAYS[type_] for type_ in types]


def _type(column: ColumnElement[Any]) -> str:
    kinds = {BigInteger: "bigint", LargeBinary: "bytea", Text: "text"}
    return next(word for kind, word in kinds.items() if isinstance(column.type, kind))


def _places(columns: Sequence[str], prefix: str = "") -> str:
    return ", ".join(f"{prefix}where_{column}" for column in columns)


def _found(columns: Sequence[str]) -> str:
    return " AND ".join(f"t.{column} = v.where_{column}" for column in columns)


def _replacing(table: Table, effect: Effect) -> str:
    keys = [column.name for column in table.primary_key]
    others = ", ".join(f"{column} = excluded.{column}" for column in effect.columns if column not in keys)
    return f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {others}"
