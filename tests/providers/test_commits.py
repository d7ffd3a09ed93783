"""Commits: all or nothing, item by item, once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import (
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    InvalidRequest,
    NewActivity,
    NextExecution,
    OrchestrationStatus,
    Outcome,
    Provider,
    Release,
    TooLarge,
)
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    FAILED,
    LEASE_MS,
    RUNNING,
    Driver,
    activity,
    fresh,
    ids_of,
    message,
    new_instance,
    turn_commit,
)


def everything(driver: Driver) -> dict[str, Any]:
    """Return every kind of effect at once, on an instance with one activity `old`, from another one, `b`."""
    return {
        "events": [b"e"],
        "activities": [activity("new")],
        "messages": [message("remote", "b"), message("local"), message("timer", due=driver.clock.now() + 50)],
        "starts": [new_instance("child", parent="a")],
        "cancel_activities": ["old"],
        "output": b"out",
        "custom_status": b"status",
        "memo": b"memo",
        "keep_ms": None,
    }


def observed(driver: Driver, *instances: str) -> list[object]:
    """Return what can be read without changing anything."""
    histories = [driver.history(instance) for instance in instances or ("a", "b")]
    return [driver.hub.get_instances(["a", "b", "child"]), histories, driver.hub.stats()]


def prepared(driver: Driver) -> Any:
    driver.started("b")
    driver.started("a", activities=[activity("old")])
    driver.send("m")
    return driver.claim_one()


def test_a_commit_shows_all_its_effects(driver: Driver) -> None:
    item = prepared(driver)
    assert driver.commit(item, **everything(driver)) is Outcome.OK
    info = driver.get()
    assert (info.output, info.custom_status, info.next_seq) == (b"out", b"status", 1)
    assert driver.history() == [b"e"]
    assert ids_of(driver.claim_work()) == ["new"]
    items = {claimed.instance: ids_of(claimed.messages) for claimed in driver.claim()}
    assert items == {"a": ["local"], "b": ["remote"], "child": ["@start"]}
    assert driver.get("child").parent == "a"


@pytest.mark.parametrize("wrong", [{"execution": 2}, {"execution": 0}, {"expected_next_seq": 1}])
def test_a_conflicting_commit_has_no_effect_and_keeps_the_lease(driver: Driver, wrong: dict[str, int]) -> None:
    item = prepared(driver)
    before = observed(driver)
    assert driver.commit(item, **everything(driver), **wrong) is Outcome.CONFLICT
    assert observed(driver) == before
    assert driver.claim() == []
    assert driver.commit(item) is Outcome.OK


def test_a_lost_commit_has_no_effect(driver: Driver) -> None:
    item = prepared(driver)
    driver.release(item.lease)
    before = observed(driver)
    assert driver.commit(item, **everything(driver)) is Outcome.LOST
    assert driver.commit(item, **everything(driver), settled=[item.lease]) is Outcome.LOST
    assert observed(driver) == before


def test_a_repeated_commit_is_already_there(driver: Driver) -> None:
    item = prepared(driver)
    commit = turn_commit(item, **everything(driver))
    assert driver.hub.commit_turns([commit]) == [Outcome.OK]
    before = observed(driver)
    assert driver.hub.commit_turns([commit]) == [Outcome.ALREADY]
    other = turn_commit(item, commit_id=commit.commit_id, events=[b"other"], status=COMPLETED)
    assert driver.hub.commit_turns([other]) == [Outcome.ALREADY]
    assert observed(driver) == before


def test_a_repeated_commit_is_already_there_while_another_leases_the_instance(driver: Driver) -> None:
    driver.create()
    commit = turn_commit(driver.claim_one(), events=[b"e"])
    driver.hub.commit_turns([commit])
    driver.send()
    item = driver.claim_one()
    assert driver.hub.commit_turns([commit]) == [Outcome.ALREADY]
    assert driver.commit(item) is Outcome.OK
    assert driver.hub.commit_turns([commit]) == [Outcome.LOST]
    assert driver.history() == [b"e"]


def test_a_repeated_last_commit_is_already_there(driver: Driver) -> None:
    driver.create()
    commit = turn_commit(driver.claim_one(), status=COMPLETED, output=b"x")
    assert driver.hub.commit_turns([commit, commit]) == [Outcome.OK, Outcome.ALREADY]
    assert driver.hub.commit_turns([commit]) == [Outcome.ALREADY]


def test_a_repeated_keeping_commit_leaves_the_lease_with_its_holder(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    commit = turn_commit(item, keep_ms=1000)
    assert driver.hub.commit_turns([commit]) == [Outcome.OK]
    assert driver.hub.commit_turns([commit]) == [Outcome.ALREADY]
    assert driver.commit(item, consumed=[]) is Outcome.OK


def test_stale_items_of_a_batch_leave_their_neighbours_alone(driver: Driver) -> None:
    driver.create("a", "b", "c", "d")
    items = {item.instance: item for item in driver.claim()}
    driver.release(items["a"].lease)
    commits = [
        turn_commit(items["a"], events=[b"x"], messages=[message("from-a", "d")]),
        turn_commit(items["b"], events=[b"b"]),
        turn_commit(items["c"], events=[b"x"], expected_next_seq=7, messages=[message("from-c", "d")]),
        turn_commit(items["d"], events=[b"d"]),
    ]
    outcomes = driver.hub.commit_turns(commits)
    assert outcomes == [Outcome.LOST, Outcome.OK, Outcome.CONFLICT, Outcome.OK]
    assert [driver.history(name) for name in "abcd"] == [[], [b"b"], [], [b"d"]]
    assert [item.instance for item in driver.claim()] == ["a"]


def test_two_commits_of_one_lease_in_a_batch(driver: Driver) -> None:
    driver.create("a", "b")
    items = {item.instance: item for item in driver.claim()}
    kept = replace(items["b"], next_seq=1)
    commits = [
        turn_commit(items["a"], events=[b"1"]),
        turn_commit(items["a"], events=[b"2"]),
        turn_commit(items["b"], events=[b"1"], keep_ms=1000),
        turn_commit(kept, events=[b"2"], consumed=[]),
    ]
    assert driver.hub.commit_turns(commits) == [Outcome.OK, Outcome.LOST, Outcome.OK, Outcome.OK]
    assert driver.history("a") == [b"1"]
    assert driver.history("b") == [b"1", b"2"]


def test_instances_of_one_batch_message_each_other(driver: Driver) -> None:
    driver.create("a", "b")
    items = {item.instance: item for item in driver.claim()}
    commits = [
        turn_commit(items["a"], messages=[message("to-b", "b")]),
        turn_commit(items["b"], messages=[message("to-a", "a")]),
    ]
    assert driver.hub.commit_turns(commits) == [Outcome.OK, Outcome.OK]
    assert {item.instance: ids_of(item.messages) for item in driver.claim()} == {"a": ["to-a"], "b": ["to-b"]}


def test_a_commit_sees_what_the_one_before_it_ended(driver: Driver) -> None:
    driver.create("a", "b")
    items = {item.instance: item for item in driver.claim()}
    commits = [
        turn_commit(items["a"], status=COMPLETED),
        turn_commit(items["b"], messages=[message("to-a", "a")]),
    ]
    assert driver.hub.commit_turns(commits) == [Outcome.OK, Outcome.OK]
    assert driver.claim() == []


def test_messages_nobody_can_take_are_dropped_and_the_commit_stands(driver: Driver) -> None:
    driver.ended("ended")
    driver.started("b")
    gone = [message("1", "nobody"), message("2", "ended"), message("3", "b", generation="other")]
    driver.started("a", messages=gone, events=[b"e"])
    assert driver.history("a") == [b"e"]
    assert driver.claim() == []


def test_consumed_counts_for_what_was_claimed_only(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    driver.send("meanwhile")
    assert driver.commit(item, consumed=["@start", "meanwhile", "unknown"]) is Outcome.OK
    assert ids_of(driver.claim_one().messages) == ["meanwhile"]


def test_what_was_not_consumed_comes_again_in_order(driver: Driver) -> None:
    driver.started()
    driver.send("m1", "m2", "m3")
    item = driver.claim_one()
    assert driver.commit(item, consumed=["m2"]) is Outcome.OK
    item = driver.claim_one()
    assert (ids_of(item.messages), item.attempt) == (["m1", "m3"], 1)


def test_an_empty_commit_is_a_visible_change(driver: Driver) -> None:
    driver.create()
    rev = driver.get().rev
    driver.turn()
    assert driver.get().rev > rev


def test_own_messages_come_behind_what_was_pending(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    driver.send("pending")
    driver.commit(item, messages=[message("own1"), message("own2")])
    assert ids_of(driver.claim_one().messages) == ["pending", "own1", "own2"]


def test_cancels_apply_after_the_inserts_of_the_commit(driver: Driver) -> None:
    driver.started(
        activities=[activity("t1"), activity("t2")],
        cancel_activities=["t1", "unknown"],
        messages=[message("m1"), message("m2")],
        cancel_messages=["m1", "unknown"],
    )
    assert ids_of(driver.claim_work()) == ["t2"]
    assert ids_of(driver.claim_one().messages) == ["m2"]


def test_cancel_all_spares_what_the_commit_schedules(driver: Driver) -> None:
    driver.started("b", activities=[activity("other")])
    driver.started("a", activities=[activity("old1"), activity("old2")])
    driver.send()
    driver.turn(cancel_all=True, activities=[activity("new")])
    assert sorted(ids_of(driver.claim_work())) == ["new", "other"]


def test_cancel_messages_takes_pending_ones_of_this_instance_only(driver: Driver) -> None:
    driver.started("b")
    driver.started("a")
    for instance in ("a", "b"):
        driver.send("x", instance=instance, due=driver.clock.now() + 10)
    driver.send("go")
    driver.turn(cancel_messages=["x"])
    driver.wait(10)
    assert [(item.instance, ids_of(item.messages)) for item in driver.claim()] == [("b", ["x"])]


def test_settled_activities_go_with_the_commit(driver: Driver) -> None:
    driver.started(activities=[activity("t1"), activity("t2"), activity("t3")])
    work = {item.id: item for item in driver.claim_work()}
    driver.release(work["t2"].lease)
    stolen = driver.claim_one_work()
    driver.send()
    driver.turn(events=[b"results"], settled=[work["t1"].lease, work["t2"].lease])
    assert driver.complete(work["t1"], message("late")) is Outcome.LOST
    assert driver.complete(stolen, message("r2")) is driver.complete(work["t3"], message("r3")) is Outcome.OK
    assert ids_of(driver.claim_one().messages) == ["r2", "r3"]


def test_an_id_may_be_scheduled_by_the_commit_that_settles_it(driver: Driver) -> None:
    driver.started(activities=[activity("t", payload=b"1"), activity("u", payload=b"1")])
    work = driver.claim_work()
    driver.release(work[1].lease)
    driver.send()
    anew = [activity("t", payload=b"2"), activity("u", payload=b"2")]
    driver.turn(settled=[item.lease for item in work], activities=anew)
    # The lease on the second was not current: it is not settled, and the same activity as before.
    assert sorted((item.id, item.payload, item.attempt) for item in driver.claim_work()) == [
        ("t", b"2", 1),
        ("u", b"1", 2),
    ]
    assert driver.complete(work[0]) is Outcome.LOST


def test_cancels_come_after_settling_and_scheduling(driver: Driver) -> None:
    driver.started(activities=[activity("t"), activity("u"), activity("old")])
    work = [item for item in driver.claim_work() if item.id != "old"]
    driver.send()
    driver.turn(
        settled=[item.lease for item in work],
        activities=[activity("t", payload=b"2"), activity("u", payload=b"2"), activity("old")],
        cancel_all=True,
        cancel_activities=["u"],
    )
    assert [(item.id, item.payload) for item in driver.claim_work()] == [("t", b"2")]


def test_a_commit_settles_what_the_one_before_it_scheduled_again(driver: Driver) -> None:
    driver.started(activities=[activity("t")])
    work = driver.claim_one_work()
    driver.send()
    item = driver.claim_one()
    commits = [
        turn_commit(item, activities=[activity("t")], keep_ms=LEASE_MS),
        turn_commit(item, consumed=[], settled=[work.lease]),
    ]
    assert driver.hub.commit_turns(commits) == [Outcome.OK, Outcome.OK]
    driver.wait(LEASE_MS)
    assert driver.claim_work() == []


def test_a_child_gets_the_messages_of_the_commit_that_starts_it(driver: Driver) -> None:
    driver.ended("old")
    driver.started(
        starts=[new_instance("new", generation="g"), new_instance("old", generation="g", replace_if=ENDED)],
        messages=[message("m", "new", generation="g"), message("m", "old"), message("n", "old", control=True)],
    )
    found = {item.instance: ids_of(item.messages) for item in driver.claim()}
    assert found == {"new": ["@start", "m"], "old": ["@start", "m", "n"]}


def test_what_a_taken_id_sends_comes_before_the_messages_and_can_be_cancelled(driver: Driver) -> None:
    driver.ended("taken")
    driver.started(
        messages=[message("m")],
        starts=[new_instance("taken", on_conflict=message(name)) for name in ("told", "gone")],
        cancel_messages=["gone"],
    )
    assert ids_of(driver.claim_one().messages) == ["told", "m"]


def test_an_instance_does_not_replace_itself(driver: Driver) -> None:
    everything_replaced = frozenset(OrchestrationStatus)
    start = new_instance("a", replace_if=everything_replaced, on_conflict=message("told"))
    driver.started("a", starts=[start])
    assert driver.get().generation != start.generation
    assert ids_of(driver.claim_one().messages) == ["told"]


def test_completed_at_is_updated_at_even_where_the_clock_went_back(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    driver.wait(-1000)
    assert driver.commit(item, status=COMPLETED) is Outcome.OK
    assert driver.get().completed_at == driver.get().updated_at == driver.clock.now() + 1000


def test_a_commit_that_fails_settles_nothing(driver: Driver) -> None:
    driver.started(activities=[activity()])
    work = driver.claim_one_work()
    driver.send()
    item = driver.claim_one()
    assert driver.commit(item, settled=[work.lease], expected_next_seq=9) is Outcome.CONFLICT
    driver.release(item.lease)
    assert driver.commit(item, settled=[work.lease]) is Outcome.LOST
    assert driver.complete(work) is Outcome.OK


def test_rewrite_replaces_the_history_in_one_step(driver: Driver) -> None:
    driver.started(events=[b"0", b"1", b"2"])
    driver.send()
    item = driver.claim_one(inline_history=True)
    assert item.history == [b"0", b"1", b"2"]
    assert driver.commit(item, rewrite=True, events=[b"n"], expected_next_seq=1) is Outcome.CONFLICT
    assert driver.commit(item, rewrite=True, events=[b"n"]) is Outcome.OK
    assert (driver.history(), driver.get().next_seq, driver.get().execution) == ([b"n"], 1, 1)


def test_a_stale_commit_does_not_reach_the_next_execution(driver: Driver) -> None:
    driver.create()
    stale = driver.claim_one()
    driver.wait(LEASE_MS)
    driver.turn(continued=NextExecution(events=[b"x"]))
    assert driver.commit(stale, continued=NextExecution(events=[b"y"])) is Outcome.LOST
    assert (driver.history(), driver.get().execution) == ([b"x"], 2)


@pytest.mark.parametrize("wrong", [{"status": COMPLETED}, {"status": FAILED}, {"rewrite": True}])
def test_continued_goes_with_neither_an_end_nor_a_rewrite(driver: Driver, wrong: dict[str, Any]) -> None:
    driver.create()
    item = driver.claim_one()
    with pytest.raises(InvalidRequest) as caught:
        driver.commit(item, continued=NextExecution(events=[]), **wrong)
    assert caught.value.index == 0
    assert driver.commit(item) is Outcome.OK


def test_a_malformed_commit_fails_the_call_with_its_index_and_nothing_is_applied(
    provider: Provider, driver: Driver
) -> None:
    driver.create("a", "b")
    one, two = driver.claim()
    huge = bytes(provider.limits.max_payload + 1)
    for bad in ({"events": [huge]}, {"activities": [activity(payload=huge)]}, {"messages": [message(payload=huge)]}):
        with pytest.raises(TooLarge) as caught:
            driver.hub.commit_turns([turn_commit(one, events=[b"x"]), turn_commit(two, **bad)])
        assert caught.value.index == 1
    with pytest.raises(InvalidRequest):
        driver.commit(one, activities=[NewActivity(id="t", name="n", payload=b"", due=10**17)])
    assert driver.get(one.instance).next_seq == 0
    assert driver.hub.commit_turns([turn_commit(one), turn_commit(two)]) == [Outcome.OK, Outcome.OK]


def test_an_exchange_does_its_parts_in_order(driver: Driver) -> None:
    driver.started("a", activities=[activity("t")])
    driver.create("b", "c")
    items = {item.instance: item for item in driver.claim()}
    work = driver.claim_one_work()
    result = driver.hub.exchange(
        Exchange(
            commits=[
                turn_commit(items["b"], activities=[activity("next")]),
                turn_commit(items["b"], commit_id=fresh("x")),
            ],
            done=[ActivityDone(lease=work.lease, message=message("result"))],
            renew=[items["c"].lease, work.lease],
            renew_ms=500,
            releases=[Release(lease=items["c"].lease)],
            claim_turns=ClaimTurns(worker="w", max_items=10, lease_ms=LEASE_MS),
            claim_activities=ClaimActivities(worker="w", max_items=10, lease_ms=LEASE_MS),
        )
    )
    assert result.commits == [Outcome.OK, Outcome.LOST]
    assert result.done == [Outcome.OK]
    assert [outcome for outcome, _ in result.renewed] in ([Outcome.OK, Outcome.CANCELLED], [Outcome.OK, Outcome.LOST])
    assert result.released == [Outcome.OK]
    assert result.turns is not None
    assert sorted(item.instance for item in result.turns.items) == ["a", "c"]
    assert result.activities is not None
    assert ids_of(result.activities.items) == ["next"]
    assert result.now == driver.clock.now()


def test_an_empty_exchange_does_nothing(driver: Driver) -> None:
    driver.create()
    result = driver.hub.exchange(Exchange())
    assert (list(result.commits), list(result.done), list(result.renewed), list(result.released)) == ([], [], [], [])
    assert (result.turns, result.activities) == (None, None)
    assert len(driver.claim()) == 1


def test_a_malformed_part_of_an_exchange_leaves_the_others_undone(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    before = observed(driver, "a")
    with pytest.raises(InvalidRequest):
        driver.hub.exchange(
            Exchange(
                commits=[turn_commit(item, events=[b"x"])],
                claim_turns=ClaimTurns(worker="w", max_items=-1, lease_ms=1),
            )
        )
    assert observed(driver, "a") == before
    assert driver.commit(item) is Outcome.OK


def test_a_commit_continues_an_exchange_with_its_own_work(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    result = driver.hub.exchange(
        Exchange(
            commits=[turn_commit(item, messages=[message("self")], status=RUNNING)],
            claim_turns=ClaimTurns(worker="w", max_items=10, lease_ms=LEASE_MS),
        )
    )
    assert result.turns is not None
    assert [ids_of(claimed.messages) for claimed in result.turns.items] == [["self"]]
