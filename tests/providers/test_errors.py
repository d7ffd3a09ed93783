"""Requests that are wrong: typed errors that name the item, and nothing applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from perdure.spi import (
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    InvalidRequest,
    NextExecution,
    OrchestrationStatus,
    Outcome,
    Provider,
    PurgeRequest,
    Release,
)
from perdure_conformance.driver import LEASE_MS, Driver, message, new_instance, turn_commit


def test_batches_of_the_limit_work_and_one_more_is_refused(provider: Provider, driver: Driver) -> None:
    most = provider.limits.max_batch
    batch = [new_instance(f"i{number}") for number in range(most + 1)]
    with pytest.raises(InvalidRequest):
        driver.hub.create_instances(batch)
    assert driver.find() == []
    assert driver.hub.create_instances(batch[:most]) == [Outcome.OK] * most
    messages = [message("m", f"i{number}") for number in range(most + 1)]
    with pytest.raises(InvalidRequest):
        driver.hub.send_messages(messages)
    assert driver.hub.send_messages(messages[:most]) == [Outcome.OK] * most
    items = driver.claim(max_items=most + 1)
    assert len(items) == most
    assert all(len(item.messages) == 2 for item in items)
    leases = [item.lease for item in items]
    commits = [turn_commit(item) for item in items]
    calls: list[Callable[[], object]] = [
        lambda: driver.hub.renew([*leases, leases[0]], 1),
        lambda: driver.hub.release([Release(lease=lease) for lease in [*leases, leases[0]]]),
        lambda: driver.hub.commit_turns([*commits, commits[0]]),
        lambda: driver.hub.complete_activities([ActivityDone(lease=leases[0], message=None)] * (most + 1)),
        lambda: driver.hub.purge(PurgeRequest(ids=["i0"] * (most + 1))),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest):
            call()
    assert [outcome for outcome, _ in driver.hub.renew(leases, LEASE_MS)] == [Outcome.OK] * most
    assert driver.hub.commit_turns(commits) == [Outcome.OK] * most


def test_lists_inside_a_commit_may_be_longer(provider: Provider, driver: Driver) -> None:
    count = provider.limits.max_batch + 1
    driver.started(messages=[message(f"m{number}") for number in range(count)])
    assert len(driver.claim_one(max_messages=count).messages) == count


def test_empty_batches_answer_with_nothing(driver: Driver) -> None:
    hub = driver.hub
    answers: list[Sequence[object]] = [
        hub.create_instances([]),
        hub.send_messages([]),
        hub.commit_turns([]),
        hub.complete_activities([]),
        hub.renew([], 0),
        hub.release([]),
        hub.get_instances([]),
    ]
    assert answers == [[]] * 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep_ms": -1},
        {"status": "RUNNING?"},
        {"execution": "1"},
        {"expected_next_seq": -1},
        {"consumed": [""]},
        {"continued": NextExecution(events=["text"])},  # type: ignore[list-item]
        {"messages": [message(due=-1)]},
        {"starts": [new_instance("x", tags={f"k{number}": "" for number in range(33)})]},
        {"lease": None},
    ],
)
def test_a_malformed_commit_names_its_index(driver: Driver, wrong: dict[str, Any]) -> None:
    driver.create()
    item = driver.claim_one()
    with pytest.raises(InvalidRequest, match=r"commits\[1\]") as caught:
        driver.hub.commit_turns([turn_commit(item), turn_commit(item, **wrong)])
    assert caught.value.index == 1
    assert driver.commit(item) is Outcome.OK


def test_malformed_renewals_and_releases_change_nothing(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    with pytest.raises(InvalidRequest):
        driver.renew(item.lease, 0)
    with pytest.raises(InvalidRequest) as caught:
        driver.hub.release([Release(lease=item.lease), Release(lease=item.lease, delay_ms=-1)])
    assert caught.value.index == 1
    assert driver.commit(item) is Outcome.OK


@pytest.mark.parametrize("names", ["flow", ["\0"], [""]])
def test_names_are_a_collection_of_names(driver: Driver, names: Any) -> None:
    driver.create()
    with pytest.raises(InvalidRequest):
        driver.claim(names=names)
    with pytest.raises(InvalidRequest):
        driver.claim_work(queues=names)


@pytest.mark.parametrize("limits", [{"limit": -1}, {"budget_ms": -1}])
def test_a_purge_with_a_negative_bound_is_refused(driver: Driver, limits: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        driver.purge("a", **limits)


def test_an_exchange_is_checked_as_its_parts_are(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    turns = ClaimTurns(worker="w", max_items=1, lease_ms=0)
    work = ClaimActivities(worker="w", max_items=-1, lease_ms=1)
    commit = turn_commit(item)
    for exchange in (
        Exchange(commits=[commit], claim_turns=turns),
        Exchange(commits=[commit], claim_activities=work),
        Exchange(commits=[commit], renew=[item.lease], renew_ms=0),
        Exchange(commits=[commit], releases=[Release(lease=item.lease, delay_ms=-1)]),
        Exchange(commits=[commit], done=[ActivityDone(lease=item.lease, message=message(due=-1))]),
    ):
        with pytest.raises(InvalidRequest):
            driver.hub.exchange(exchange)
    assert driver.get().status is OrchestrationStatus.PENDING
    assert driver.commit(item) is Outcome.OK


def test_a_lease_of_the_wrong_kind_is_lost(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    done = [ActivityDone(lease=item.lease, message=None)]
    assert driver.hub.complete_activities(done) == [Outcome.LOST]
    assert driver.commit(item) is Outcome.OK
