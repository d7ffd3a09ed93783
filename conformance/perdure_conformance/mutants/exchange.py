"""Mistakes that the cases of exchange find out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import (
    ActivityDone,
    ClaimTurns,
    Exchange,
    ExchangeResult,
    Hub,
    Lease,
    Limits,
    Millis,
    Outcome,
    TurnCommit,
    checks,
)
from perdure_conformance.mutant import mutant
from perdure_memory import activities, turns
from perdure_memory import hub as memory_hub
from perdure_memory.hub import MemoryHub
from perdure_memory.leases import renew_leases
from perdure_memory.state import HubState
from perdure_sql import commits as sql_commits
from perdure_sql import hub as sql_hub
from perdure_sql import turns as sql_turns
from perdure_sql.effects import Effect
from perdure_sql.rows import InstanceRow, key_of
from perdure_sql.work import Work
from perdure_sqlite.hub import SQLiteHub


def change_exchange(patch: pytest.MonkeyPatch, run: Callable[[MemoryHub, Exchange], ExchangeResult]) -> None:
    """Put another function in the place of the exchange, under the lock and checked as the real one."""

    def changed(self: MemoryHub, given: Exchange) -> ExchangeResult:
        with self._transaction():
            # Nothing of it is done, all of it is checked.
            checks.check_exchange(given, self._limits, self._clock.now())
            return run(self, given)

    patch.setattr(MemoryHub, "exchange", changed)


@mutant("177", "BAT-01", "BAT-06", "ATM-03", source="a part written twice, and changed once", base="sqlite")
def an_exchange_settles_nothing(patch: pytest.MonkeyPatch) -> None:
    """The commits of an exchange do everything but delete the activities that they settled."""
    exchange = SQLiteHub.exchange

    def without_settled(work: Work, commits: Sequence[TurnCommit]) -> list[Outcome]:
        return sql_commits.commit_turns(work, [replace(commit, settled=()) for commit in commits])

    def unsettled(self: SQLiteHub, given: Exchange) -> ExchangeResult:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(sql_hub, "commit_turns", without_settled)
            return exchange(self, given)

    patch.setattr(SQLiteHub, "exchange", unsettled)


@mutant("178", "BAT-01", "BAT-04", source="held leases by the item that they name", base="sqlite")
def a_former_lease_hides_the_current_one(patch: pytest.MonkeyPatch) -> None:
    """Of several leases in `held` on one instance the last is looked at alone."""

    def by_key(work: Work, request: ClaimTurns) -> dict[int, InstanceRow]:
        leases = {key_of(lease, lease.kind): lease for lease in request.held}
        work.load(list(leases))
        found = ((work.rows.get(key), lease) for key, lease in leases.items())
        return {row.key: row for row, lease in found if row is not None and row.owned_by(lease)}

    patch.setattr(sql_turns, "_held", by_key)


@mutant("179", "BAT-02", source="an executemany with the values of one row")
def a_batch_keeps_as_its_first_commit_does(patch: pytest.MonkeyPatch) -> None:
    """All commits of a batch keep or release their leases as the first of them says."""

    def alike(state: HubState, commits: Sequence[TurnCommit], now: Millis, limits: Limits) -> list[Outcome]:
        first = commits[0].keep_ms if commits else None
        return turns.commit_turns(state, [replace(commit, keep_ms=first) for commit in commits], now, limits)

    patch.setattr(memory_hub, "commit_turns", alike)


@mutant("180", "BAT-04", "BAT-06", source="claims are asked for while the commits are on their way")
def an_exchange_claims_first(patch: pytest.MonkeyPatch) -> None:
    """An exchange returns what was ready before it, and not what its own parts made ready."""

    def claim_first(self: MemoryHub, given: Exchange) -> ExchangeResult:
        claims = Exchange(claim_turns=given.claim_turns, claim_activities=given.claim_activities)
        claimed = Hub.exchange(self, claims)
        done = Hub.exchange(self, replace(given, claim_turns=None, claim_activities=None))
        return replace(done, turns=claimed.turns, activities=claimed.activities)

    change_exchange(patch, claim_first)


@mutant("181", "BAT-04", source="renewals last, since nothing depends on them")
def an_exchange_renews_last(patch: pytest.MonkeyPatch) -> None:
    """An exchange renews leases after its claims: one that had run out may be claimed under its holder's hands."""

    def renew_last(self: MemoryHub, given: Exchange) -> ExchangeResult:
        done = Hub.exchange(self, replace(given, renew=()))
        return replace(done, renewed=self.renew(given.renew, given.renew_ms) if given.renew else [])

    change_exchange(patch, renew_last)


@mutant("182", "BAT-05", source="a loop in the place of an executemany", base="sqlite")
def rows_are_written_one_by_one(patch: pytest.MonkeyPatch) -> None:
    """Rows of instances are updated with a statement each."""

    def one_by_one(self: Work, effect: Effect, values: list[Any]) -> None:
        for row in values:
            self.db.write(effect, [row])
        values.clear()

    patch.setattr(Work, "_many", one_by_one)


@mutant("183", "BAT-05", source="a query for each item", base="sqlite")
def messages_are_read_instance_by_instance(patch: pytest.MonkeyPatch) -> None:
    """A claim reads the messages of each instance with a statement of its own."""
    ask = sql_turns._ask_messages

    def one_by_one(work: Work, rows: Sequence[InstanceRow], whole: Any, most: int) -> list[Any]:
        return [found for row in rows for found in ask(work, [row], whole, most)]

    patch.setattr(sql_turns, "_ask_messages", one_by_one)


@mutant("184", "BAT-06", source="the order of the parts is taken to be free")
def an_exchange_releases_before_it_renews(patch: pytest.MonkeyPatch) -> None:
    """An exchange releases leases before it renews others."""

    def release_first(self: MemoryHub, given: Exchange) -> ExchangeResult:
        first = Hub.exchange(self, Exchange(commits=given.commits, done=given.done))
        released = self.release(given.releases)
        rest = Hub.exchange(self, replace(given, commits=(), done=(), releases=()))
        return replace(rest, commits=first.commits, done=first.done, released=released)

    change_exchange(patch, release_first)


@mutant("185", "BAT-06", source="the order of the parts is taken to be free")
def an_exchange_completes_before_it_commits(patch: pytest.MonkeyPatch) -> None:
    """An exchange completes activities before the commits that cancel or settle them."""

    def complete_first(self: MemoryHub, given: Exchange) -> ExchangeResult:
        done = self.complete_activities(given.done)
        return replace(Hub.exchange(self, replace(given, done=())), done=done)

    change_exchange(patch, complete_first)


@mutant("186", "BAT-07", source="a default in the place of None")
def an_exchange_claims_without_being_asked(patch: pytest.MonkeyPatch) -> None:
    """An exchange that asks for no turns gets one all the same."""
    exchange = MemoryHub.exchange

    def claim(self: MemoryHub, given: Exchange) -> ExchangeResult:
        asked = given.claim_turns or ClaimTurns(worker="", max_items=1, lease_ms=30_000)
        return exchange(self, replace(given, claim_turns=asked))

    patch.setattr(MemoryHub, "exchange", claim)


@mutant("187", "BAT-08", source="the default, with single_txn_exchange declared")
def an_exchange_is_six_calls(patch: pytest.MonkeyPatch) -> None:
    """An exchange is said to be one transaction, but what comes before a malformed part is applied."""

    def parts(self: MemoryHub, given: Exchange) -> ExchangeResult:
        return Hub.exchange(self, given)

    patch.setattr(MemoryHub, "exchange", parts)


@mutant("188", "BAT-03", "ATM-09", source="a loop that ends at the first failure")
def completions_end_at_the_first_stale_one(patch: pytest.MonkeyPatch) -> None:
    """Of a list of completions those behind a stale one are LOST as well."""
    complete = activities._complete_activity

    def until_lost(state: HubState, done: Sequence[ActivityDone], now: Millis) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for item in done:
            lost = Outcome.LOST in outcomes
            outcomes.append(Outcome.LOST if lost else complete(state, item, now))
        return outcomes

    patch.setattr(memory_hub, "complete_activities", until_lost)


@mutant("189", "BAT-03", source="answers by lease, and not by place")
def renewals_are_answered_ok_first(patch: pytest.MonkeyPatch) -> None:
    """The answers to a list of renewals come sorted: those that succeeded first."""

    def sorted_answers(
        state: HubState, leases: Sequence[Lease], for_ms: int, now: Millis
    ) -> list[tuple[Outcome, Lease | None]]:
        return sorted(renew_leases(state, leases, for_ms, now), key=lambda answer: answer[0] is not Outcome.OK)

    patch.setattr(memory_hub, "renew_leases", sorted_answers)


@mutant("190", "BAT-08", source="a check that is left out where parts are fused", base="sqlite")
def an_exchange_does_not_check_what_was_done(patch: pytest.MonkeyPatch) -> None:
    """The messages of completions in an exchange are not checked: one with an impossible due time is stored."""

    def check(exchange: Exchange, limits: Limits, now: Millis) -> None:
        original(replace(exchange, done=()), limits, now)

    original = checks.check_exchange
    patch.setattr(checks, "check_exchange", check)
