"""What one operation has read and is going to write.

A batch is worked off in three strokes: everything that its items touch is read with a few statements, the items are
decided one after another on these records alone, so that each sees those before it, and what changed is written
with one statement a kind. The number of statements does not grow with the batch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TypeVar

from perdure.spi import UNSET, Lease, LeaseKind, Limits, Millis, NewActivity, ThreeValued
from perdure_sql import effects
from perdure_sql.effects import Effect
from perdure_sql.framing import pack_events
from perdure_sql.reach import Reach
from perdure_sql.rows import ActivityRow, Header, InstanceRow, key_of
from perdure_sql.transaction import Transaction

__all__ = ["Work"]

_Values = TypeVar("_Values", bound=tuple[object, ...])


class Work:
    """The records of one operation, inside its transaction.

    Args:
        db: the transaction.
        hub: the hub's key.
        limits: the provider's.
        reach: what it reaches; read here.
    """

    def __init__(self, db: Transaction, hub: int, limits: Limits, reach: Reach) -> None:
        self.db = db
        self.hub = hub
        self.limits = limits
        self.rows: dict[int, InstanceRow] = {}
        self.ids: dict[str, InstanceRow | None] = {}
        self.activities: dict[int, ActivityRow] = {}
        self.headers: dict[tuple[int, str], Header] = {}
        self.known: set[tuple[int, str]] = set()
        self.changed: set[str] = set()
        """Ids of instances that changed visibly: for subscribers."""
        self.work = False
        """Whether something may have become claimable: for subscribers."""
        self._keys: list[int] = []
        """For instances to be created, the next one last."""
        self._dirty: dict[int, InstanceRow] = {}
        self._created: dict[int, tuple[str | None, Mapping[str, str], Millis]] = {}
        self._inputs: dict[int, tuple[bytes | None, bytes]] = {}
        self._new_inputs: dict[int, bytes | None] = {}
        self._states: dict[int, dict[str, bytes | None]] = {}
        self._discarded: list[tuple[int]] = []
        self._wiped_inbox: list[tuple[int]] = []
        self._wiped_activities: list[tuple[int]] = []
        self._wiped_history: list[tuple[int]] = []
        self._messages: dict[tuple[int, str], tuple[int, int, int, str, int, int, int, bytes]] = {}
        self._removed: list[tuple[int, int, int]] = []
        self._recheck: set[int] = set()
        self._remember: dict[tuple[int, str], tuple[int, str, int, int]] = {}
        self._history: dict[tuple[int, int], tuple[int, int, int, bytes]] = {}
        self._activities: dict[tuple[int, str], tuple[int, int, str, str, str, int, int, int, int, int, bytes]] = {}
        self._scheduling: set[int] = set()
        self._cancelled: list[tuple[int, str]] = []
        self._settled: list[tuple[int, str, int]] = []
        self.load(reach.keys, reach.ids)
        self.load_activities(reach.activities)
        self.now: Millis = db.now()
        """One reading for the whole operation: once it has locked what it reaches, so that whoever writes later has the
        later time."""

    # Reading.

    def load(self, keys: Collection[int], ids: Collection[str] = ()) -> None:
        """Read the hot rows of instances, those not read yet."""
        wanted = [key for key in keys if key not in self.rows and key >= 0]
        missing = [id_ for id_ in ids if id_ not in self.ids]
        if wanted or missing:
            for found in self.db.rows(self.hub, wanted, missing):
                self._keep(InstanceRow(*found))
            for id_ in missing:
                self.ids.setdefault(id_, None)

    def load_activities(self, keys: Collection[int]) -> None:
        """Read who owns activities, those not read yet."""
        wanted = [key for key in keys if key not in self.activities and key >= 0]
        if wanted:
            for found in self.db.activity_rows(self.hub, wanted):
                self.activities[found[0]] = ActivityRow(*found)

    def reserve(self, count: int) -> None:
        """Get keys for as many instances as may be created."""
        if count > len(self._keys):
            self._keys = [*reversed(self.db.new_keys(count - len(self._keys))), *self._keys]

    def load_messages(self, pairs: Collection[tuple[int, str]], fresh: Collection[tuple[int, str]] = ()) -> None:
        """Read which of the (key, message id) are pending, and of `fresh` also which are remembered."""
        if pairs or fresh:
            headers = self.db.headers((*pairs, *fresh))
            # Asked for together, read afterwards: a database far away is waited for once.
            known = self.db.remembered((*fresh,), self.now) if fresh else ()
            for key, id_, due, seq, control, client in headers:
                self.headers[key, id_] = Header(due, seq, control, client)
            self.known.update((key, id_) for key, id_ in known)

    def activity_ids(self, row: InstanceRow) -> set[str]:
        """Return the ids of an instance's activities, as this operation has left them so far."""
        self.flush()
        return set(self.db.activity_ids(row.key))

    def is_new(self, row: InstanceRow) -> bool:
        """Tell whether this operation created the instance and has not written it yet."""
        return row.key in self._created

    def _keep(self, row: InstanceRow) -> None:
        if row.key not in self.rows:
            self.rows[row.key] = row
            self.ids[row.id] = row

    # Deciding.

    def alter(self, row: InstanceRow) -> None:
        """Have the row written."""
        self._dirty[row.key] = row

    def touch(self, row: InstanceRow) -> None:
        """Have a visible change written, and told to subscribers."""
        row.touch(self.now)
        self.changed.add(row.id)
        self._dirty[row.key] = row

    def create(
        self, row: InstanceRow, *, start: bytes, input_: bytes | None, parent: str | None, tags: Mapping[str, str]
    ) -> None:
        """Have a new instance written; `row.key` is given here."""
        self.reserve(1)
        row.key = self._keys.pop()
        self.rows[row.key] = self.ids[row.id] = row
        self._created[row.key] = (parent, tags, self.now)
        self._inputs[row.key] = (input_, start)
        self._dirty[row.key] = row
        self.changed.add(row.id)
        self.work = True

    def discard(self, row: InstanceRow) -> None:
        """Have an instance deleted with all that is its own."""
        key = row.key
        self.wipe(row)
        self.drop_history(row)
        self.rows.pop(key, None)
        self._dirty.pop(key, None)
        self._created.pop(key, None)
        self._inputs.pop(key, None)
        self._new_inputs.pop(key, None)
        self._states.pop(key, None)
        self._remember = {pair: item for pair, item in self._remember.items() if pair[0] != key}
        self._discarded.append((key,))
        self.ids[row.id] = None
        self.changed.add(row.id)

    def wipe(self, row: InstanceRow) -> None:
        """Have the messages and activities of an instance deleted, those of this operation among them."""
        key = row.key
        if row.pending:
            self._wiped_inbox.append((key,))
            self.headers = {pair: item for pair, item in self.headers.items() if pair[0] != key}
            self._messages = {pair: item for pair, item in self._messages.items() if pair[0] != key}
        row.pending = 0
        row.start_due = row.inbox_due = row.control_due = None
        self.cancel_activities(row)

    def cancel_activities(self, row: InstanceRow) -> None:
        """Have all activities of an instance deleted, those of this operation among them."""
        self._wiped_activities.append((row.key,))
        if self._activities:
            self._activities = {pair: item for pair, item in self._activities.items() if pair[0] != row.key}

    def cancel_activity(self, row: InstanceRow, id_: str) -> None:
        """Have one activity deleted."""
        self._activities.pop((row.key, id_), None)
        self._cancelled.append((row.key, id_))

    def settle(self, row: InstanceRow, lease: Lease) -> None:
        """Have an activity of an instance deleted if its lease is the current one."""
        if not (lease.token.isascii() and lease.token.isalnum()):
            # None of ours, and maybe no text that the driver takes.
            return
        if row.key in self._scheduling:
            # Deletions are written first. What a former commit scheduled, and was there, must not come anew.
            self.flush()
        self._settled.append((key_of(lease, LeaseKind.ACTIVITY), lease.token, row.key))

    def schedule(self, row: InstanceRow, new: NewActivity) -> None:
        """Have an activity inserted, unless it exists."""
        pair = (row.key, new.id)
        if pair not in self._activities:
            # One that is overdue has been claimable only since it exists.
            due = max(new.due, self.now)
            # The order is that of the insert's columns.
            self._activities[pair] = (
                self.hub, row.key, new.id, new.name, new.queue, due, 0, 0, 0, 0, new.payload,
            )  # fmt: skip
            self._scheduling.add(row.key)
            self.work = True

    def append(self, row: InstanceRow, events: Collection[bytes]) -> None:
        """Have events appended to the history."""
        for first_seq, count, value in pack_events(list(events), row.next_seq):
            self._history[row.key, first_seq] = (row.key, first_seq, count, value)
        row.next_seq += len(events)

    def drop_history(self, row: InstanceRow) -> None:
        """Have the history deleted, what this operation appended to it included."""
        if row.next_seq == 0:
            return
        self._history = {place: item for place, item in self._history.items() if place[0] != row.key}
        self._wiped_history.append((row.key,))
        row.next_seq = 0

    def set_state(self, row: InstanceRow, field: str, value: ThreeValued) -> None:
        """Have one of the payloads of an instance set or cleared; `UNSET` keeps it."""
        if value is not UNSET:
            self._states.setdefault(row.key, {})[field] = value

    def set_input(self, row: InstanceRow, value: bytes | None) -> None:
        """Have the input replaced."""
        if row.key in self._inputs:
            self._inputs[row.key] = (value, self._inputs[row.key][1])
        else:
            self._new_inputs[row.key] = value

    def add_message(
        self, row: InstanceRow, id_: str, payload: bytes, due: Millis, *, control: bool, client: bool
    ) -> None:
        """Have a message inserted that is known to be new."""
        if due == 0:
            due = row.order_due = max(self.now, row.order_due)
        seq = row.arrivals
        row.arrivals += 1
        row.pending += 1
        if row.inbox_due is None or due < row.inbox_due:
            row.inbox_due = due
        if control and (row.control_due is None or due < row.control_due):
            row.control_due = due
        self.headers[row.key, id_] = Header(due, seq, int(control), int(client))
        self._messages[row.key, id_] = (row.key, due, seq, id_, self.now, int(control), int(client), payload)
        self._dirty[row.key] = row
        self.work = True

    def remove_message(self, row: InstanceRow, id_: str, header: Header) -> None:
        """Have a pending message deleted."""
        del self.headers[row.key, id_]
        if self._messages.pop((row.key, id_), None) is None:
            self._removed.append((row.key, header.due, header.seq))
        row.pending -= 1
        if row.pending == 0:
            row.inbox_due = row.control_due = None
        elif header.due == row.inbox_due or header.control:
            self._recheck.add(row.key)

    def remember(self, row: InstanceRow, id_: str) -> None:
        """Have a consumed id remembered."""
        pair = (row.key, id_)
        self.known.add(pair)
        self._remember[pair] = (row.key, id_, self.hub, self.now + self.limits.dedupe_ms)

    # Writing.

    def flush(self) -> None:
        """Write what was decided. Deletions come first: what they take was there before."""
        self._flush_deletions()
        self._flush_insertions()
        if self._recheck:
            self._flush_recheck()
        if self._dirty:
            self._many(effects.UPDATE_ROW, [effects.update_values(row) for row in self._dirty.values()])
            self._dirty.clear()

    def _flush_deletions(self) -> None:
        if self._discarded or self._wiped_activities or self._cancelled or self._settled:
            # Who asks for one afterwards must see that it is gone.
            self.activities.clear()
        if self._discarded:
            for effect in effects.WIPE_INSTANCE:
                self.db.write(effect, self._discarded)
            self._discarded.clear()
        self._many(effects.WIPE_INBOX, self._wiped_inbox)
        self._many(effects.DELETE_MESSAGE, self._removed)
        self._many(effects.WIPE_ACTIVITIES, self._wiped_activities)
        self._many(effects.DELETE_ACTIVITY, self._cancelled)
        self._many(effects.SETTLE, self._settled)
        self._many(effects.WIPE_HISTORY, self._wiped_history)

    def _flush_insertions(self) -> None:
        if self._created:
            created = [(self._dirty.pop(key), *more) for key, more in self._created.items()]
            self.db.write(effects.INSERT_ROW, [self._insert_values(*item) for item in created])
            self.db.write(effects.INSERT_INPUT, [(key, *value) for key, value in self._inputs.items()])
            tags = [(row.key, name, value) for row, _, tags, _ in created for name, value in tags.items()]
            self._many(effects.INSERT_TAG, tags)
            self._created.clear()
            self._inputs.clear()
        if self._messages:
            self.db.write(effects.INSERT_MESSAGE, self._messages.values())
            self._messages.clear()
        if self._history:
            self.db.write(effects.INSERT_HISTORY, self._history.values())
            self._history.clear()
        if self._activities:
            self.db.write(effects.INSERT_ACTIVITY, self._activities.values())
            self._activities.clear()
            self._scheduling.clear()
        if self._remember:
            self.db.write(effects.REMEMBER, self._remember.values())
            self._remember.clear()
        if self._new_inputs:
            self.db.write(effects.SET_INPUT, [(value, key) for key, value in self._new_inputs.items()])
            self._new_inputs.clear()
        if self._states:
            self.db.write(effects.SET_STATE, [effects.state_values(key, state) for key, state in self._states.items()])
            self._states.clear()

    def _flush_recheck(self) -> None:
        for key, due, control_due in self.db.earliest(self._recheck):
            row = self.rows.get(key)
            if row is not None:
                row.inbox_due, row.control_due = due, control_due
                self._dirty[key] = row
        self._recheck.clear()

    def _many(self, effect: Effect, values: list[_Values]) -> None:
        if values:
            self.db.write(effect, values)
            values.clear()

    def _insert_values(
        self, row: InstanceRow, parent: str | None, tags: Mapping[str, str], created_at: Millis
    ) -> tuple[object, ...]:
        text = json.dumps(dict(tags), ensure_ascii=False) if tags else None
        return effects.insert_values(row, self.hub, parent, text, created_at)
