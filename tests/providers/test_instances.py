"""Creating instances, and the states they pass through."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.spi import NextExecution, NotFound, OrchestrationStatus, Outcome
from perdure_conformance.driver import COMPLETED, ENDED, FAILED, RUNNING, Driver, activity, message, new_instance


def test_an_instance_goes_from_creation_to_its_end(driver: Driver) -> None:
    assert driver.create() == [Outcome.OK]
    item = driver.claim_one()
    assert [(delivery.id, delivery.payload) for delivery in item.messages] == [("@start", b"start")]
    assert (item.execution, item.next_seq, item.attempt, item.status) == (1, 0, 1, OrchestrationStatus.PENDING)
    assert driver.commit(item, events=[b"e0", b"e1"], status=COMPLETED, output=b"done") is Outcome.OK
    info = driver.get()
    assert (info.status, info.output, info.next_seq, info.execution) == (COMPLETED, b"done", 2, 1)
    assert info.completed_at == info.updated_at == driver.clock.now()
    assert driver.history() == [b"e0", b"e1"]
    batch = driver.claim_batch()
    assert (list(batch.items), batch.more, batch.next_due) == ([], False, None)


def test_a_created_instance_is_visible_before_any_claim(driver: Driver) -> None:
    driver.create("a", name="n", version="2", parent="p", tags={"k": "v"}, input=b"in", generation="g1")
    info = driver.get()
    assert (info.id, info.name, info.version, info.parent, info.tags) == ("a", "n", "2", "p", {"k": "v"})
    assert (info.input, info.output, info.custom_status, info.failure) == (b"in", None, None, None)
    assert (info.generation, info.status, info.next_seq) == ("g1", OrchestrationStatus.PENDING, 0)
    assert (info.created_at, info.updated_at, info.completed_at) == (driver.clock.now(), driver.clock.now(), None)
    assert info.status_rev == 0 < info.rev


def test_an_id_is_created_once(driver: Driver) -> None:
    assert driver.create("a", generation="g1", start=b"first") == [Outcome.OK]
    before = driver.get()
    assert driver.create("a", generation="g2") == [Outcome.EXISTS]
    assert driver.create("a", generation="g2", replace_if=ENDED) == [Outcome.EXISTS]
    assert driver.get() == before
    assert [delivery.payload for delivery in driver.claim_one().messages] == [b"first"]


def test_the_same_generation_again_is_a_retry_whatever_became_of_it(driver: Driver) -> None:
    driver.create("a", generation="g1")
    assert driver.create("a", generation="g1") == [Outcome.ALREADY]
    driver.turn(status=COMPLETED)
    assert driver.create("a", generation="g1", replace_if=ENDED) == [Outcome.ALREADY]
    assert driver.get().status is COMPLETED


def test_the_first_of_an_id_wins_within_a_batch(driver: Driver) -> None:
    pending = frozenset({OrchestrationStatus.PENDING})
    one = new_instance("a", name="one")
    batch = [one, new_instance("a", name="two"), new_instance("a", replace_if=pending), one]
    assert driver.hub.create_instances(batch) == [Outcome.OK, Outcome.EXISTS, Outcome.EXISTS, Outcome.ALREADY]
    assert driver.get().name == "one"


def test_a_replaced_instance_leaves_nothing_behind(driver: Driver) -> None:
    driver.ended(events=[b"old"], custom_status=b"old", memo=b"old")
    old = driver.get()
    assert driver.create("a", replace_if=frozenset({FAILED})) == [Outcome.EXISTS]
    assert driver.create("a", replace_if=ENDED, generation="g2", start=b"new") == [Outcome.REPLACED]
    info = driver.get()
    assert (info.generation, info.status, info.next_seq, info.custom_status) == ("g2", "PENDING", 0, None)
    assert info.rev > old.rev
    assert (old.status_rev > 0, info.status_rev) == (True, 0)
    assert driver.history() == []
    item = driver.claim_one()
    assert (item.memo, item.custom_status, [delivery.payload for delivery in item.messages]) == (None, None, [b"new"])


def test_a_running_instance_can_be_replaced_and_its_leases_are_dead(driver: Driver) -> None:
    driver.started(activities=[activity()], messages=[message("timer", due=driver.clock.now() + 10)])
    work = driver.claim_one_work()
    driver.send("m")
    item = driver.claim_one()
    assert driver.create("a", replace_if=frozenset({RUNNING})) == [Outcome.REPLACED]
    assert driver.commit(item) is Outcome.LOST
    assert driver.renew(item.lease) == (Outcome.LOST, None)
    assert driver.renew(work.lease) == (Outcome.CANCELLED, None)
    assert driver.complete(work, message("result")) is Outcome.LOST
    driver.wait(10)
    assert [delivery.id for delivery in driver.claim_one().messages] == ["@start"]


def test_many_are_created_in_one_call_and_answered_in_order(driver: Driver) -> None:
    ids = [f"i{number}" for number in range(500)]
    assert driver.create("i7", "i9") == [Outcome.OK, Outcome.OK]
    expected = [Outcome.EXISTS if id in ("i7", "i9") else Outcome.OK for id in ids]  # noqa: A001
    assert driver.create(*ids) == expected
    assert {item.instance for item in driver.claim(max_items=1000)} == set(ids)


def test_versions_are_told_apart(driver: Driver) -> None:
    for id, version in [("none", None), ("empty", ""), ("one", "1.0")]:  # noqa: A001
        driver.create(id, version=version)
    assert [driver.get(id).version for id in ("none", "empty", "one")] == [None, "", "1.0"]  # noqa: A001
    assert {item.instance: item.version for item in driver.claim()} == {"none": None, "empty": "", "one": "1.0"}


def test_suspended_is_a_status_like_running(driver: Driver) -> None:
    driver.started(status=OrchestrationStatus.SUSPENDED)
    driver.send()
    item = driver.claim_one()
    assert item.status is OrchestrationStatus.SUSPENDED
    assert driver.commit(item) is Outcome.OK
    assert driver.get().status is RUNNING


def test_continued_closes_one_execution_and_opens_the_next(driver: Driver) -> None:
    driver.create(version="1", input=b"in1")
    driver.turn(events=[b"a", b"b"])
    driver.send("m1", "m2")
    item = driver.claim_one()
    following = NextExecution(events=[b"x"], input=b"in2", version="2")
    assert driver.commit(item, events=[b"c"], continued=following, consumed=["m1"]) is Outcome.OK
    info = driver.get()
    assert (info.execution, info.next_seq, info.input, info.version) == (2, 1, b"in2", "2")
    assert driver.history() == [b"x"]
    page = driver.hub.read_history("a")
    assert (page.execution, page.generation) == (2, info.generation)
    item = driver.claim_one()
    assert (item.execution, item.next_seq, item.version) == (2, 1, "2")
    assert [delivery.id for delivery in item.messages] == ["m2"]


def test_an_ended_instance_takes_and_does_nothing(driver: Driver) -> None:
    driver.started(activities=[activity("t1")])
    driver.send("left")
    work = driver.claim_one_work()
    item = driver.claim_one()
    soon = driver.clock.now() + 5
    assert (
        driver.commit(
            item,
            status=COMPLETED,
            consumed=[],
            activities=[activity("t2")],
            messages=[message("self"), message("timer", due=soon)],
            keep_ms=1000,
        )
        is Outcome.OK
    )
    assert driver.send("late") == [Outcome.TERMINAL]
    assert driver.complete(work, message("result")) is Outcome.LOST
    assert driver.renew(work.lease)[0] is Outcome.CANCELLED
    assert driver.commit(item) is Outcome.LOST
    driver.wait(100_000)
    assert driver.claim(held=[item.lease]) == []
    assert driver.claim_work() == []
    assert driver.claim_batch().next_due is driver.claim_work_batch().next_due is None


def test_a_reopening_message_sets_an_ended_instance_running(driver: Driver) -> None:
    driver.ended(status=FAILED, events=[b"e"], failure=b"why", output=b"out", custom_status=b"kept")
    before = driver.get()
    assert (before.failure, before.output) == (b"why", b"out")
    assert driver.send("no", reopen=frozenset({COMPLETED})) == [Outcome.TERMINAL]
    assert driver.get() == before
    assert driver.send("yes", reopen=frozenset({FAILED})) == [Outcome.OK]
    info = driver.get()
    assert (info.status, info.completed_at, info.failure, info.output) == (RUNNING, None, None, None)
    assert (info.custom_status, info.next_seq, info.generation) == (b"kept", 1, before.generation)
    assert info.rev > before.rev
    item = driver.claim_one()
    assert [delivery.id for delivery in item.messages] == ["yes"]
    assert driver.commit(item, rewrite=True, events=[b"n0", b"n1"]) is Outcome.OK
    assert driver.history() == [b"n0", b"n1"]


def test_a_commit_can_reopen_another_instance(driver: Driver) -> None:
    driver.ended("child", status=FAILED)
    driver.started("a", messages=[message("again", "child", reopen=frozenset({FAILED}))])
    assert driver.get("child").status is RUNNING


def test_failure_is_kept_with_failed_only(driver: Driver) -> None:
    driver.started(failure=b"ignored")
    assert driver.get().failure is None
    driver.send()
    driver.turn(status=FAILED, failure=b"why")
    assert driver.get().failure == b"why"


@pytest.mark.parametrize("field", ["output", "custom_status"])
def test_three_valued_fields_keep_clear_and_set(driver: Driver, field: str) -> None:
    driver.started()
    steps: list[tuple[dict[str, Any], bytes | None]] = [
        ({}, None),
        ({field: b""}, b""),
        ({}, b""),
        ({field: b"0"}, b"0"),
        ({field: None}, None),
    ]
    for given, expected in steps:
        driver.send()
        driver.turn(**given)
        driver.wait(700_000)
        assert getattr(driver.get(), field) == expected


def test_memo_is_three_valued_and_outlives_the_execution(driver: Driver) -> None:
    driver.started(memo=b"\x00memo")
    steps: list[tuple[dict[str, Any], bytes | None]] = [
        ({}, b"\x00memo"),
        ({"memo": b""}, b""),
        ({"memo": None}, None),
        ({"memo": b"x"}, b"x"),
    ]
    for given, expected in steps:
        driver.send("m", due=driver.clock.now())
        driver.turn(continued=NextExecution(events=[]), **given)
        driver.wait(700_000)
        driver.send("look")
        item = driver.claim_one()
        assert item.memo == expected
        driver.commit(item)
        driver.wait(700_000)


def test_rev_counts_every_visible_change_and_status_rev_those_of_the_custom_status(driver: Driver) -> None:
    driver.create()
    revs = [driver.get().rev]
    status_revs = []
    steps: list[dict[str, Any]] = [{}, {"custom_status": b"1"}, {"output": b"x"}, {"custom_status": b"1"}]
    for given in [*steps, {"custom_status": None}]:
        driver.turn(events=[], **given)
        driver.send(f"m{len(revs)}")
        info = driver.get()
        revs.append(info.rev)
        status_revs.append(info.status_rev)
    assert revs == sorted(set(revs))
    assert status_revs == [0, revs[2], revs[2], revs[4], revs[5]]


def test_an_unknown_instance_is_none_to_get_and_not_found_to_history(driver: Driver) -> None:
    assert driver.hub.get_instances(["nobody"]) == [None]
    with pytest.raises(NotFound):
        driver.hub.read_history("nobody")


def test_a_start_waits_for_its_due_and_comes_before_what_was_sent_meanwhile(driver: Driver) -> None:
    due = driver.clock.now() + 1000
    driver.create(due=due)
    driver.send("early")
    batch = driver.claim_batch()
    assert (list(batch.items), batch.next_due) == ([], due)
    driver.wait(999)
    assert driver.claim() == []
    driver.wait(1)
    assert [delivery.id for delivery in driver.claim_one().messages] == ["@start", "early"]


def test_a_child_starts_with_its_parents_commit(driver: Driver) -> None:
    driver.started(events=[b"scheduled"], starts=[new_instance("child", parent="a", name="sub", input=b"in")])
    info = driver.get("child")
    assert (info.parent, info.name, info.input) == ("a", "sub", b"in")
    assert driver.claim_one().instance == "child"


def test_a_child_whose_id_is_taken_becomes_a_message_to_the_parent(driver: Driver) -> None:
    driver.ended("child")
    before = driver.get("child")
    starts = [new_instance("child", on_conflict=message("taken", "a")), new_instance("child")]
    driver.started(starts=starts)
    assert driver.get("child") == before
    assert [delivery.id for delivery in driver.claim_one().messages] == ["taken"]


def test_a_client_create_ignores_on_conflict(driver: Driver) -> None:
    driver.started()
    driver.create("b")
    assert driver.create("b", on_conflict=message("taken", "a")) == [Outcome.EXISTS]
    assert [item.instance for item in driver.claim()] == ["b"]
