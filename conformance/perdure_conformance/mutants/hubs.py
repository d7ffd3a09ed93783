"""Mistakes that the cases of hubs find out."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from perdure.spi import Fields, Message, Millis, NewInstance, NotFound, Outcome, PurgeRequest, PurgeResult
from perdure_conformance.mutant import mutant
from perdure_conformance.mutants.schemas import change_effect, only_within
from perdure_conformance.threads import is_racing
from perdure_memory import instances, messages
from perdure_memory.hub import MemoryHub
from perdure_memory.provider import MemoryProvider
from perdure_memory.state import HubState
from perdure_memory.store import Store
from perdure_sql import effects, leases, purge
from perdure_sql import hub as sql_hub
from perdure_sql import queries as sql_queries
from perdure_sql.work import Work
from perdure_sqlite import agenda, reader, transaction
from perdure_sqlite import hub as sqlite_hub
from perdure_sqlite.hub import SQLiteHub
from perdure_sqlite.provider import SQLiteProvider
from perdure_sqlite.transaction import SQLiteTransaction

# SQL with the hub as a condition, in whatever spelling. The parameter stays, so that what is passed still fits.
_HUB = re.compile(r"(\w+\.)?\bhub = (\?|given\.hub)|\(\+ (\w+\.)?hub\) = \?")


def _without_hub(statement: str) -> str:
    changed, times = _HUB.subn(lambda found: "? IS NOT NULL" if "?" in found[0] else "given.hub > 0", statement)
    assert times, f"no hub is asked for in {statement}"
    return changed


def _forget_hub(patch: pytest.MonkeyPatch, module: ModuleType, *names: str) -> None:
    """Take the hub out of the conditions of statements."""
    for name in names:
        patch.setattr(module, name, _without_hub(getattr(module, name)))


def _forget_hub_within(patch: pytest.MonkeyPatch, place: Any, function: str, *names: str, **called: Any) -> None:
    """Take the hub out of the conditions of statements only while a function runs that is called with these options."""
    only_within(patch, place, function, lambda inner: _forget_hub(inner, transaction, *names), **called)


# The hub forgotten in a statement.


@mutant("64a", "HUB-02", source="a copied statement", base="sqlite")
def stats_count_all_hubs(patch: pytest.MonkeyPatch) -> None:
    """The counts of instances by status are those of all hubs."""
    _forget_hub(patch, reader, "STATUS_COUNTS")


@mutant("64b", "HUB-02", source="a copied statement", base="sqlite")
def purge_by_id_reaches_all_hubs(patch: pytest.MonkeyPatch) -> None:
    """A purge by id takes an instance of that id from whichever hub has one."""
    _forget_hub_within(patch, purge, "_families", "ROWS_BY_ID", cascade=False)


@mutant("64c", "HUB-02", source="a copied statement", base="sqlite")
def next_due_is_that_of_all_hubs(patch: pytest.MonkeyPatch) -> None:
    """A claim is told when something of another hub is due."""
    _forget_hub(patch, agenda, "NEXT_TURN")


@mutant("64d", "HUB-02", source="a copied statement", base="sqlite")
def reads_by_id_find_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """An instance is read by its id, whichever hub it is in."""
    infos = reader._infos

    def anywhere(fields: Fields) -> str:
        return _without_hub(infos(fields))

    patch.setattr(reader, "_infos", anywhere)


@mutant("64e", "HUB-02", source="a copied statement", base="sqlite")
def queries_find_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """A query finds the instances of all hubs."""
    conditions = sql_queries._conditions
    patch.setattr(sql_queries, "_conditions", lambda *args: conditions(*args)[1:])


@mutant("64f", "HUB-02", source="a copied statement", base="sqlite")
def claims_take_turns_of_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """A claim takes whatever is ready in the store."""
    _forget_hub(patch, agenda, "READY_TURNS")


@mutant("346a", "HUB-02", source="a copied statement", base="sqlite")
def claims_take_activities_of_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """A claim takes whatever activity is ready in the store."""
    _forget_hub(patch, agenda, "READY_ACTIVITIES")


@mutant("346b", "HUB-02", source="a copied statement", base="sqlite")
def next_due_of_activities_is_that_of_all_hubs(patch: pytest.MonkeyPatch) -> None:
    """A claim of activities is told when one of another hub is due."""
    _forget_hub(patch, agenda, "NEXT_ACTIVITY")


@mutant("346c", "HUB-02", source="a copied statement", base="sqlite")
def queues_count_all_hubs(patch: pytest.MonkeyPatch) -> None:
    """What waits is counted over all hubs."""
    _forget_hub(patch, reader, "ACTIVITY_QUEUE")


@mutant("346d", "HUB-02", source="a copied statement", base="sqlite")
def history_is_read_from_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """History is read by the instance's id, whichever hub it is in."""
    _forget_hub(patch, reader, "HISTORY_HEAD")


@mutant("346e", "HUB-01", "HUB-02", source="a copied statement", base="sqlite")
def messages_reach_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """Instances are found by their id alone when something is sent to them."""
    # A purge finds them later, and is none of this mistake.
    _forget_hub_within(patch, Work, "__init__", "ROWS_BY_ID")


@mutant("346f", "HUB-02", source="a copied statement", base="sqlite")
def cascade_goes_on_in_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """A cascade takes the children that other hubs have under the same id."""
    _forget_hub_within(patch, purge, "_families", "FAMILY", "ROWS_BY_ID", cascade=True)


@mutant("346g", "HUB-02", source="a copied statement", base="sqlite")
def claims_take_controlled_turns_of_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """A claim takes whatever instance of the store has a control message."""
    _forget_hub(patch, agenda, "CONTROLLED_TURNS")


@mutant("346h", "HUB-02", source="a copied statement", base="sqlite")
def next_due_of_control_is_that_of_all_hubs(patch: pytest.MonkeyPatch) -> None:
    """A claim is told when a control message of another hub is due."""
    _forget_hub(patch, agenda, "NEXT_CONTROLLED_TURN")


@mutant("347a", "HUB-03", source="`WHERE key = ?`", base="sqlite")
def turns_are_found_by_key_alone(patch: pytest.MonkeyPatch) -> None:
    """A lease on a turn is good in whichever hub it is used."""
    _forget_hub(patch, transaction, "ROWS_BY_KEY")


@mutant("347b", "HUB-03", source="`WHERE key = ?`", base="sqlite")
def activities_are_completed_by_key_alone(patch: pytest.MonkeyPatch) -> None:
    """An activity can be completed through any hub."""
    _forget_hub_within(patch, sql_hub, "complete_activities", "ACTIVITY_ROWS")


@mutant("347c", "HUB-03", source="`WHERE key = ?`", base="sqlite")
def activities_are_renewed_by_key_alone(patch: pytest.MonkeyPatch) -> None:
    """An activity can be renewed and released through any hub."""
    _forget_hub_within(patch, leases._Items, "__init__", "ACTIVITY_ROWS")


@mutant("347d", "HUB-03", "NMS-04", source="`WHERE key = ? AND token = ?`", base="sqlite")
def activities_are_settled_by_key_alone(patch: pytest.MonkeyPatch) -> None:
    """A commit can settle an activity of another instance, even of another hub."""
    change_effect(patch, effects.SETTLE, "perdure_activities.instance = ?", "? IS NOT NULL")


# State shared by hubs.


@mutant("348a", "HUB-01", source="a unique key without the hub")
def generations_are_unique_in_the_store(patch: pytest.MonkeyPatch) -> None:
    """A generation that another hub has for the same id makes a create ALREADY done."""
    known: dict[tuple[str, str], HubState] = {}
    create = instances.create_instance

    def create_once(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        if known.setdefault((new.id, new.generation), state) is not state:
            return Outcome.ALREADY
        return create(state, new, now, settled)

    patch.setattr(instances, "create_instance", create_once)


@mutant("348b", "HUB-01", source="a unique key without the hub")
def message_ids_are_unique_in_the_store(patch: pytest.MonkeyPatch) -> None:
    """A message whose id another hub's instance of the same id had is a duplicate."""
    known: dict[tuple[str, str], HubState] = {}
    deliver = messages.deliver

    def deliver_once(state: HubState, message: Message, now: Millis, *, from_client: bool = False) -> Outcome:
        if known.setdefault((message.instance, message.id), state) is not state:
            return Outcome.DUPLICATE
        return deliver(state, message, now, from_client=from_client)

    patch.setattr(messages, "deliver", deliver_once)


@mutant("349", "HUB-10", source="one list of subscribers")
def hints_go_to_every_hub(patch: pytest.MonkeyPatch) -> None:
    """Whoever subscribes to any hub is told of what happens in all."""
    publish = Store.publish

    def to_all(store: Store, hub: str) -> None:
        subscriptions = store.subscriptions
        everybody = [subscription for each in subscriptions.values() for subscription in each]
        store.subscriptions = {hub: everybody}
        try:
            publish(store, hub)
        finally:
            store.subscriptions = subscriptions

    patch.setattr(Store, "publish", to_all)


# Creation and deletion.


@mutant("350", "HUB-04", "HUB-11", source="a DELETE without its condition", base="sqlite")
def deletion_empties_inboxes_of_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """Deleting a hub deletes the messages of all."""
    wiped = tuple(
        "DELETE FROM perdure_inbox WHERE ? > 0" if "perdure_inbox" in statement else statement
        for statement in transaction.WIPE_HUB
    )
    patch.setattr(transaction, "WIPE_HUB", wiped)


@mutant("351", "HUB-04", source="hubs made at first use")
def deleted_hub_reads_as_empty(patch: pytest.MonkeyPatch) -> None:
    """A hub that isn't there is an empty one."""
    transaction = MemoryHub._transaction

    @contextmanager
    def lenient(hub: MemoryHub) -> Iterator[HubState]:
        store = hub._context.store
        missing = hub.name not in store.hubs
        state = store.hubs.setdefault(hub.name, HubState())
        try:
            with transaction(hub):
                yield state
        finally:
            if missing and not state.instances:
                del store.hubs[hub.name]

    patch.setattr(MemoryHub, "_transaction", lenient)


@mutant("352", "HUB-05", source="an upsert")
def creating_a_hub_again_empties_it(patch: pytest.MonkeyPatch) -> None:
    """A hub that exists is created anew, though the answer is EXISTS."""
    create_hub = MemoryProvider.create_hub

    def overwrite(provider: MemoryProvider, name: str) -> Outcome:
        outcome = create_hub(provider, name)
        provider._store.hubs[name] = HubState()
        return outcome

    patch.setattr(MemoryProvider, "create_hub", overwrite)


@mutant("353", "HUB-05", source="a set's order")
def hubs_are_listed_in_order_of_creation(patch: pytest.MonkeyPatch) -> None:
    """The list of hubs is not sorted."""
    patch.setattr(MemoryProvider, "list_hubs", lambda provider: list(provider._store.hubs))


class _Folding(dict[str, HubState]):
    """Hubs by a part of their names."""

    fold: Callable[[str], str]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(self.fold(str(key)))

    def __setitem__(self, key: str, value: HubState) -> None:
        super().__setitem__(self.fold(key), value)

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(self.fold(key), default)

    def pop(self, key: str, default: Any = None) -> Any:
        return super().pop(self.fold(key), default)


def _fold_names(patch: pytest.MonkeyPatch, fold: Callable[[str], str]) -> None:
    init = Store.__init__

    def folding(store: Store) -> None:
        init(store)
        hubs = _Folding()
        hubs.fold = fold
        store.hubs = hubs

    patch.setattr(Store, "__init__", folding)


@mutant("354a", "HUB-06", source="schema names, which are folded")
def hub_names_have_no_case(patch: pytest.MonkeyPatch) -> None:
    """Hubs whose names differ in case are one."""
    _fold_names(patch, str.lower)


@mutant("354b", "HUB-06", source="Postgres cuts identifiers at 63 bytes")
def hub_names_are_cut(patch: pytest.MonkeyPatch) -> None:
    """Of a hub's name the first 63 bytes count."""
    _fold_names(patch, lambda name: name.encode()[:63].decode(errors="ignore"))


@mutant("355a", "HUB-07", "HUB-04", source="a handle that keeps what it found")
def handle_keeps_the_deleted_hub(patch: pytest.MonkeyPatch) -> None:
    """A handle goes on with the hub that it found at its first call."""
    transaction = MemoryHub._transaction
    found: dict[int, tuple[MemoryHub, HubState]] = {}

    @contextmanager
    def keeping(hub: MemoryHub) -> Iterator[HubState]:
        if id(hub) not in found:
            with transaction(hub) as state:
                found[id(hub)] = (hub, state)
        with hub._context.store.lock:
            yield found[id(hub)][1]

    patch.setattr(MemoryHub, "_transaction", keeping)


@mutant("355b", "HUB-07", source="deletion as a flag")
def hub_comes_back_with_its_contents(patch: pytest.MonkeyPatch) -> None:
    """A hub that was deleted is as it was when it is created again."""
    deleted: dict[str, HubState] = {}
    create_hub, delete_hub = MemoryProvider.create_hub, MemoryProvider.delete_hub

    def hide(provider: MemoryProvider, name: str) -> Outcome:
        state = provider._store.hubs.get(name)
        if state is not None:
            deleted[name] = state
        return delete_hub(provider, name)

    def show(provider: MemoryProvider, name: str) -> Outcome:
        outcome = create_hub(provider, name)
        if outcome is Outcome.OK and name in deleted:
            provider._store.hubs[name] = deleted.pop(name)
        return outcome

    patch.setattr(MemoryProvider, "delete_hub", hide)
    patch.setattr(MemoryProvider, "create_hub", show)


@mutant("356a", "HUB-08", source="`KEYS name*`")
def deletion_takes_hubs_that_begin_alike(patch: pytest.MonkeyPatch) -> None:
    """Deleting a hub deletes all whose names begin with its name."""
    delete_hub = MemoryProvider.delete_hub

    def by_prefix(provider: MemoryProvider, name: str) -> Outcome:
        for other in [other for other in provider._store.hubs if other.startswith(name) and other != name]:
            delete_hub(provider, other)
        return delete_hub(provider, name)

    patch.setattr(MemoryProvider, "delete_hub", by_prefix)


@mutant("356b", "HUB-08", source="`WHERE name LIKE ?`", base="sqlite")
def hub_names_are_patterns(patch: pytest.MonkeyPatch) -> None:
    """A hub's name is looked up as a pattern."""
    statement = "SELECT key FROM perdure_hubs WHERE name LIKE ? ORDER BY length(name) LIMIT 1"
    for module in (reader, sqlite_hub):
        patch.setattr(module, "FIND_HUB", statement)


@mutant("357", "HUB-09", source="a loop over all hubs", base="sqlite")
def claims_look_at_every_hub(patch: pytest.MonkeyPatch) -> None:
    """A claim asks each hub of the store for the names in use."""
    turn_names = SQLiteTransaction.turn_names

    def of_all_hubs(self: SQLiteTransaction, hub: int) -> Collection[str]:
        for (key,) in self._db.execute("SELECT key FROM perdure_hubs").fetchall():
            self._db.execute(agenda.TURN_NAMES, (key, key)).fetchall()
        return turn_names(self, hub)

    patch.setattr(SQLiteTransaction, "turn_names", of_all_hubs)


@mutant("358a", "LIM-07", source="a cache of what is missing", base="sqlite")
def missing_hub_stays_missing(patch: pytest.MonkeyPatch) -> None:
    """A handle that once found no hub finds none any more."""
    missing: dict[int, SQLiteHub] = {}
    key_of = SQLiteHub._key

    def remember_missing(hub: SQLiteHub, db: Any) -> int:
        if id(hub) in missing:
            raise NotFound(f"there is no hub {hub.name!r}")
        try:
            return key_of(hub, db)
        except NotFound:
            missing[id(hub)] = hub
            raise

    patch.setattr(SQLiteHub, "_key", remember_missing)


@mutant("358b", "HUB-13", source="a cache of hub keys", base="sqlite")
def hub_keys_are_remembered(patch: pytest.MonkeyPatch) -> None:
    """A provider looks up a hub's key once, and forgets it only if it deletes the hub itself."""
    keys: dict[tuple[int, str], tuple[SQLiteProvider, int]] = {}
    key_of, delete_hub = SQLiteHub._key, SQLiteProvider.delete_hub

    def remembered(hub: SQLiteHub, db: Any) -> int:
        place = (id(hub._provider), hub.name)
        if place not in keys:
            keys[place] = (hub._provider, key_of(hub, db))
        return keys[place][1]

    def delete(provider: SQLiteProvider, name: str) -> Outcome:
        keys.pop((id(provider), name), None)
        return delete_hub(provider, name)

    patch.setattr(SQLiteHub, "_key", remembered)
    patch.setattr(SQLiteProvider, "delete_hub", delete)


@mutant("359a", "HUB-11", source="a forgotten table", base="sqlite")
def deletion_leaves_activities(patch: pytest.MonkeyPatch) -> None:
    """The activities of a hub that was deleted stay in the store."""
    kept = tuple(statement for statement in transaction.WIPE_HUB if "perdure_activities" not in statement)
    patch.setattr(transaction, "WIPE_HUB", kept)


@mutant("359b", "HUB-11", source="tables in the wrong order", base="sqlite")
def deletion_takes_instances_first(patch: pytest.MonkeyPatch) -> None:
    """The instances of a hub are deleted before what is found by way of them."""
    patch.setattr(
        transaction,
        "WIPE_HUB",
        tuple(sorted(transaction.WIPE_HUB, key=lambda text: "FROM perdure_instances WHERE" not in text[:40])),
    )


@mutant("359c", "HUB-12", source="check, then act, without a lock")
def a_hub_is_created_twice(patch: pytest.MonkeyPatch) -> None:
    """Two threads find that there is no hub yet, and both create it."""
    create_hub = MemoryProvider.create_hub
    meeting = threading.Barrier(2)
    met = threading.Event()

    def check_then_act(provider: MemoryProvider, name: str) -> Outcome:
        if not is_racing() or met.is_set() or name in provider._store.hubs:
            return create_hub(provider, name)
        try:
            meeting.wait(2)
        except threading.BrokenBarrierError:
            return create_hub(provider, name)
        met.set()
        provider._store.hubs[name] = HubState()
        return Outcome.OK

    patch.setattr(MemoryProvider, "create_hub", check_then_act)


@mutant("631", "HUB-08", source="keys like `hub:id` in Redis")
def a_hub_and_an_id_make_one_key(patch: pytest.MonkeyPatch) -> None:
    """Two instances whose hubs and ids join to the same text are one, and the second EXISTS."""
    transaction = MemoryHub._transaction
    create = instances.create_instance
    current: list[Store] = []
    names: list[str] = []

    @contextmanager
    def noted(self: MemoryHub) -> Iterator[HubState]:
        with transaction(self) as state:
            current[:], names[:] = [self._context.store], [self.name]
            yield state

    def created(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        key = f"{names[0]}:{new.id}"
        for name, other in current[0].hubs.items():
            if name != names[0] and key.startswith(f"{name}:") and key.removeprefix(f"{name}:") in other.instances:
                return Outcome.EXISTS
        return create(state, new, now, settled)

    patch.setattr(MemoryHub, "_transaction", noted)
    patch.setattr(instances, "create_instance", created)


@mutant("632", "HUB-08", source="SCAN hub:* in Redis")
def deleting_a_hub_takes_those_below_it(patch: pytest.MonkeyPatch) -> None:
    """With a hub go those whose names go on behind a colon."""
    delete = MemoryProvider.delete_hub

    def delete_all(self: MemoryProvider, name: str) -> Outcome:
        outcome = delete(self, name)
        for other in [each for each in self._store.hubs if each.startswith(f"{name}:")]:
            del self._store.hubs[other]
        return outcome

    patch.setattr(MemoryProvider, "delete_hub", delete_all)


@mutant("633", "HUB-06", source="names taken from keys by splitting them")
def names_with_a_colon_are_not_listed(patch: pytest.MonkeyPatch) -> None:
    """A hub with a colon in its name works, but isn't listed."""
    listed = MemoryProvider.list_hubs
    patch.setattr(MemoryProvider, "list_hubs", lambda self: [name for name in listed(self) if ":" not in name])


@mutant("634", "HUB-05", source="a default that is taken for granted")
def a_default_hub_is_always_listed(patch: pytest.MonkeyPatch) -> None:
    """The hub `default` is listed though nobody created it."""
    listed = MemoryProvider.list_hubs
    patch.setattr(MemoryProvider, "list_hubs", lambda self: sorted({*listed(self), "default"}))


@mutant("635", "HUB-14", source="the first page of an API")
def a_hundred_hubs_are_listed(patch: pytest.MonkeyPatch) -> None:
    """Of many hubs the first hundred are listed."""
    listed = MemoryProvider.list_hubs
    patch.setattr(MemoryProvider, "list_hubs", lambda self: listed(self)[:100])


@mutant("636", "HUB-13", source="the hub's key, looked up once a connection")
def a_handle_remembers_where_a_hub_is(patch: pytest.MonkeyPatch) -> None:
    """A hub that another handle deleted is still there for this one, and one that it created anew isn't."""
    kept: dict[tuple[int, str], HubState] = {}
    delete = MemoryProvider.delete_hub

    @contextmanager
    def transaction(self: MemoryHub) -> Iterator[HubState]:
        store = self._context.store
        with store.lock:
            self._context.check_open()
            if self.name not in store.hubs and (id(self._context), self.name) not in kept:
                raise NotFound(f"there is no hub {self.name!r}")
            yield kept.setdefault((id(self._context), self.name), store.hubs.get(self.name) or HubState())
            store.publish(self.name)

    def delete_hub(self: MemoryProvider, name: str) -> Outcome:
        kept.pop((id(self._context), name), None)
        return delete(self, name)

    patch.setattr(MemoryHub, "_transaction", transaction)
    patch.setattr(MemoryProvider, "delete_hub", delete_hub)


@mutant("637", "HUB-04", source="an early return")
def nothing_to_send_asks_for_no_hub(patch: pytest.MonkeyPatch) -> None:
    """Sending nothing works on a hub that doesn't exist."""
    send = MemoryHub.send_messages
    patch.setattr(MemoryHub, "send_messages", lambda self, sent: send(self, sent) if sent else [])


@mutant("637b", "HUB-04", source="an early return", base="sqlite")
def nothing_to_purge_asks_for_no_hub(patch: pytest.MonkeyPatch) -> None:
    """Purging no ids works on a hub that doesn't exist."""
    purge_hub = SQLiteHub.purge

    def purged(self: SQLiteHub, request: PurgeRequest) -> PurgeResult:
        return PurgeResult(deleted=0, complete=True) if request.ids == [] else purge_hub(self, request)

    patch.setattr(SQLiteHub, "purge", purged)


@mutant("638", "HUB-11", source="a cascade that the schema doesn't have", base="sqlite")
def deleting_a_hub_deletes_its_row(patch: pytest.MonkeyPatch) -> None:
    """Of a deleted hub all rows stay but its own."""
    patch.setattr(transaction, "WIPE_HUB", transaction.WIPE_HUB[-1:])
