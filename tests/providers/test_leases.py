"""Leases on turns: exclusive, fenced by tokens, renewed, released, kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.spi import InvalidRequest, Lease, LeaseKind, Outcome
from perdure_conformance.driver import LEASE_MS, Driver, activity, message


def test_a_leased_instance_is_nobody_elses_until_the_lease_expires(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    assert item.lease.kind is LeaseKind.TURN
    assert item.lease.expires_at == driver.clock.now() + LEASE_MS
    driver.send()
    driver.wait(LEASE_MS - 1)
    batch = driver.claim_batch()
    assert (list(batch.items), batch.more, batch.next_due) == ([], False, item.lease.expires_at)
    driver.wait(1)
    assert [delivery.id for delivery in driver.claim_one().messages] == ["@start", "m"]


def test_a_thief_gets_another_token_and_a_larger_fence(driver: Driver) -> None:
    driver.create()
    first = driver.claim_one()
    driver.wait(LEASE_MS)
    second = driver.claim_one()
    assert second.lease.token != first.lease.token
    assert second.lease.fence > first.lease.fence
    assert len(second.lease.token) >= 16


def test_the_robbed_are_lost_even_under_the_same_worker_name(driver: Driver) -> None:
    driver.create()
    robbed = driver.claim_one()
    driver.wait(LEASE_MS)
    thief = driver.claim_one()
    before = driver.get()
    assert driver.commit(robbed, events=[b"x"], custom_status=b"x") is Outcome.LOST
    assert driver.renew(robbed.lease) == (Outcome.LOST, None)
    assert driver.release(robbed.lease) is Outcome.LOST
    assert driver.get() == before
    assert driver.claim() == []
    assert driver.commit(thief) is Outcome.OK
    assert driver.commit(robbed) is Outcome.LOST


def test_an_expired_lease_that_nobody_took_still_commits(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    driver.wait(10 * LEASE_MS)
    assert driver.commit(item) is Outcome.OK


def test_a_released_or_committed_lease_is_dead(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    assert driver.release(item.lease) is Outcome.OK
    assert driver.release(item.lease) is Outcome.LOST
    assert driver.commit(item) is Outcome.LOST
    item = driver.turn()
    assert driver.commit(item) is Outcome.LOST
    assert driver.renew(item.lease) == (Outcome.LOST, None)
    assert driver.release(item.lease) is Outcome.LOST


@pytest.mark.parametrize("token", ["", "forged", "0" * 32])
def test_a_forged_token_is_lost(driver: Driver, token: str) -> None:
    driver.started(activities=[activity()])
    driver.send()
    item, work = driver.claim_one(), driver.claim_one_work()
    forged = replace(item, lease=replace(item.lease, token=token))
    forged_work = replace(work, lease=replace(work.lease, token=token))
    assert driver.commit(forged, events=[b"x"]) is Outcome.LOST
    assert driver.renew(forged.lease) == driver.renew(forged_work.lease) == (Outcome.LOST, None)
    assert driver.release(forged.lease) is driver.release(forged_work.lease) is Outcome.LOST
    assert driver.complete(forged_work) is Outcome.LOST
    assert driver.commit(item) is driver.complete(work) is Outcome.OK


def test_a_token_is_good_for_its_own_instance_only(driver: Driver) -> None:
    driver.create("a", "b")
    one, two = driver.claim()
    crossed = replace(one, lease=replace(one.lease, token=two.lease.token))
    assert driver.commit(crossed) is Outcome.LOST
    assert driver.commit(one) is driver.commit(two) is Outcome.OK


def test_a_lease_survives_being_written_down(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    lease = Lease(
        kind=LeaseKind(item.lease.kind.value),
        key=str(item.lease.key),
        token=str(item.lease.token),
        fence=item.lease.fence,
        expires_at=item.lease.expires_at,
    )
    assert driver.commit(replace(item, lease=lease)) is Outcome.OK


def test_renew_lengthens_from_now(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    driver.wait(LEASE_MS - 1)
    outcome, lease = driver.renew(item.lease)
    assert outcome is Outcome.OK
    assert lease is not None
    assert (lease.token, lease.fence) == (item.lease.token, item.lease.fence)
    assert lease.expires_at == driver.clock.now() + LEASE_MS
    driver.wait(LEASE_MS - 1)
    assert driver.claim() == []
    driver.wait(1)
    assert driver.claim() != []


def test_renew_revives_an_expired_lease_that_nobody_took(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    driver.wait(LEASE_MS + 5)
    assert driver.renew(item.lease)[0] is Outcome.OK
    assert driver.claim() == []


def test_renew_answers_in_order(driver: Driver) -> None:
    driver.create("a", "b", "c")
    leases = {item.instance: item.lease for item in driver.claim()}
    driver.release(leases["b"])
    answers = driver.hub.renew([leases["c"], leases["b"], leases["a"]], LEASE_MS)
    assert [outcome for outcome, _ in answers] == [Outcome.OK, Outcome.LOST, Outcome.OK]
    assert [lease and lease.key for _, lease in answers] == [leases["c"].key, None, leases["a"].key]


def test_release_hides_the_whole_instance_for_its_delay(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    assert driver.release(item.lease, delay_ms=500) is Outcome.OK
    driver.send()
    batch = driver.claim_batch()
    assert (list(batch.items), batch.next_due) == ([], driver.clock.now() + 500)
    driver.wait(499)
    assert driver.claim() == []
    driver.wait(1)
    assert [delivery.id for delivery in driver.claim_one().messages] == ["@start", "m"]


def test_attempts_count_claims_since_the_last_commit(driver: Driver) -> None:
    driver.create()
    for attempt in (1, 2):
        item = driver.claim_one()
        assert item.attempt == attempt
        driver.release(item.lease)
    assert driver.claim_one().attempt == 3
    driver.wait(LEASE_MS)
    item = driver.claim_one()
    assert item.attempt == 4
    assert driver.commit(item, consumed=[]) is Outcome.OK
    assert driver.claim_one().attempt == 1


def test_an_unpenalised_release_gives_the_attempt_back(driver: Driver) -> None:
    driver.create()
    for _ in range(3):
        item = driver.claim_one()
        assert item.attempt == 1
        driver.release(item.lease, penalize=False)
    driver.release(driver.claim_one().lease)
    item = driver.claim_one()
    assert item.attempt == 2
    driver.release(item.lease, penalize=False)
    assert driver.claim_one().attempt == 2


def test_an_attempt_given_back_never_goes_below_none(driver: Driver) -> None:
    item = driver.started(keep_ms=1000)
    driver.send()
    assert driver.release(item.lease, penalize=False) is Outcome.OK
    assert driver.claim_one().attempt == 1


def test_next_due_is_the_earliest_for_the_names_asked(driver: Driver) -> None:
    now = driver.clock.now()
    driver.create("a", name="alpha", due=now + 100)
    driver.send("stop", control=True, due=now + 300)
    driver.create("b", name="beta", due=now + 200)
    expected = [(["alpha"], 100), (["beta"], 200), (["gamma"], 300), ([], 300), (None, 100)]
    assert [(names, driver.claim_batch(names=names).next_due) for names, _ in expected] == [
        (names, now + delay) for names, delay in expected
    ]


def test_a_kept_lease_blocks_others_and_commits_again(driver: Driver) -> None:
    item = driver.started(events=[b"0"], keep_ms=1000)
    driver.send()
    assert driver.claim() == []
    again = replace(item, next_seq=1)
    assert driver.commit(again, events=[b"1"], keep_ms=1000, consumed=[]) is Outcome.OK
    assert driver.history() == [b"0", b"1"]
    driver.wait(999)
    assert driver.claim() == []
    driver.wait(1)
    assert [delivery.id for delivery in driver.claim_one().messages] == ["m"]


def test_a_kept_instance_comes_back_to_its_holder_alone(driver: Driver) -> None:
    first = driver.started(keep_ms=1000)
    assert driver.claim(held=[first.lease]) == []
    driver.send()
    assert driver.claim() == []
    item = driver.claim_one(held=[first.lease])
    assert (item.lease.token, item.lease.fence) == (first.lease.token, first.lease.fence)
    assert (item.attempt, item.next_seq) == (first.attempt, 0)
    assert item.lease.expires_at == driver.clock.now() + LEASE_MS
    assert [delivery.id for delivery in item.messages] == ["m"]
    assert driver.commit(item) is Outcome.OK
    assert driver.claim(held=[item.lease]) == []


def test_a_held_lease_is_never_shortened(driver: Driver) -> None:
    first = driver.started(keep_ms=LEASE_MS)
    driver.send()
    item = driver.claim_one(held=[first.lease], lease_ms=1)
    assert item.lease.expires_at == driver.clock.now() + LEASE_MS


def test_a_held_lease_that_was_stolen_is_passed_over(driver: Driver) -> None:
    first = driver.started(keep_ms=1000)
    driver.send()
    driver.wait(1000)
    thief = driver.claim_one()
    assert thief.lease.fence > first.lease.fence
    assert driver.claim(held=[first.lease]) == []


def test_an_expired_kept_lease_is_anyones(driver: Driver) -> None:
    first = driver.started(keep_ms=1000)
    driver.send()
    driver.wait(1000)
    item = driver.claim_one(held=[first.lease])
    assert item.lease.token == first.lease.token
    driver.wait(LEASE_MS)
    assert driver.claim_one().lease.token != first.lease.token


def test_names_choose_and_next_due_speaks_of_them(driver: Driver) -> None:
    due = driver.clock.now() + 100
    driver.create("a", name="alpha")
    driver.create("b", name="beta")
    driver.create("c", name="gamma", due=due)
    assert driver.claim(names=[]) == []
    assert driver.claim_batch(names=["delta"]).next_due is None
    batch = driver.claim_batch(names={"gamma"})
    assert (list(batch.items), batch.more, batch.next_due) == ([], False, due)
    assert driver.claim_one(names=["beta", "delta"]).instance == "b"
    assert driver.claim_one().instance == "a"


def test_a_control_message_overrides_names_start_and_delay(driver: Driver) -> None:
    driver.create("future", due=driver.clock.now() + 1000)
    driver.create("hidden")
    (item,) = driver.claim()
    driver.release(item.lease, delay_ms=1000)
    for instance in ("future", "hidden"):
        driver.send("plain", instance=instance)
        driver.send("stop", instance=instance, control=True)
    items = {item.instance: item for item in driver.claim()}
    assert [(d.id, d.control) for d in items["future"].messages] == [("stop", True)]
    assert [d.id for d in items["hidden"].messages] == ["@start", "plain", "stop"]


def test_a_worker_without_the_name_gets_the_start_and_control_messages_alone(driver: Driver) -> None:
    driver.create()
    for number in range(3):
        driver.send(f"plain{number}")
        driver.send(f"stop{number}", control=True)
    driver.send("later", control=True, due=driver.clock.now() + 1000)
    # Whatever lies before them they come, or such a worker would turn in circles.
    item = driver.claim_one(names=["other"], max_messages=2)
    assert [d.id for d in item.messages] == ["@start", "stop0", "stop1"]
    item = driver.claim_one(names=[], held=[item.lease])
    assert [d.id for d in item.messages] == ["@start", "stop0", "stop1", "stop2"]
    driver.release(item.lease)
    assert [d.id for d in driver.claim_one(max_messages=3).messages] == ["@start", "plain0", "stop0"]


def test_what_such_a_worker_did_not_get_it_can_not_consume(driver: Driver) -> None:
    driver.create()
    driver.send("plain")
    driver.send("stop", control=True)
    item = driver.claim_one(names=[])
    assert driver.commit(item, consumed=["plain", "stop"]) is Outcome.OK
    batch = driver.claim_batch(names=[])
    assert (list(batch.items), batch.next_due) == ([], None)
    item = driver.claim_one(names=["flow"])
    assert [d.id for d in item.messages] == ["@start", "plain"]
    assert driver.commit(item, consumed=[]) is Outcome.OK
    driver.send("stop2", control=True)
    item = driver.claim_one(names=[])
    assert driver.commit(item, consumed=["@start", "plain", "stop2"]) is Outcome.OK
    assert [d.id for d in driver.claim_one(names=["flow"]).messages] == ["plain"]


def test_names_filter_held_leases_too(driver: Driver) -> None:
    first = driver.started(keep_ms=LEASE_MS)
    driver.send("plain")
    assert driver.claim(names=["other"], held=[first.lease]) == []
    driver.send("stop", control=True)
    item = driver.claim_one(names=["other"], held=[first.lease])
    assert (item.lease.token, [d.id for d in item.messages]) == (first.lease.token, ["stop"])
    assert driver.commit(item, consumed=["plain", "stop"], keep_ms=LEASE_MS) is Outcome.OK
    assert [d.id for d in driver.claim_one(names=["flow"], held=[first.lease]).messages] == ["plain"]


def test_only_what_the_last_claim_delivered_is_consumed(driver: Driver) -> None:
    first = driver.started(keep_ms=LEASE_MS)
    driver.send("m1", "m2")
    item = driver.claim_one(held=[first.lease])
    driver.send("past", due=driver.clock.now() - 1)
    item = driver.claim_one(held=[item.lease], max_messages=1)
    assert [d.id for d in item.messages] == ["past"]
    assert driver.commit(item, consumed=["past", "m1", "m2"]) is Outcome.OK
    assert [d.id for d in driver.claim_one().messages] == ["m1", "m2"]


def test_a_held_lease_counts_at_least_one_attempt(driver: Driver) -> None:
    item = driver.started(keep_ms=LEASE_MS)
    driver.send()
    assert [driver.claim_one(held=[item.lease]).attempt for _ in range(2)] == [1, 1]
    driver.wait(LEASE_MS)
    item = driver.claim_one()
    assert (item.attempt, driver.claim_one(held=[item.lease]).attempt) == (2, 2)


def test_keep_ms_sets_the_end_of_the_lease(driver: Driver) -> None:
    driver.started(keep_ms=10)
    driver.send()
    assert driver.claim_batch().next_due == driver.clock.now() + 10
    driver.wait(10)
    assert len(driver.claim()) == 1


def test_an_end_releases_the_lease_even_with_keep_ms(driver: Driver) -> None:
    item = driver.ended(keep_ms=LEASE_MS)
    assert driver.hub.stats().turns.leased == 0
    assert driver.renew(item.lease) == (Outcome.LOST, None)


def test_renew_never_shortens(driver: Driver) -> None:
    driver.started(activities=[activity()])
    driver.send()
    for lease in (driver.claim_one().lease, driver.claim_one_work().lease):
        outcome, renewed = driver.renew(lease, 1)
        assert outcome is Outcome.OK
        assert renewed is not None
        assert renewed.expires_at == lease.expires_at


def test_a_control_message_does_not_break_a_lease(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    driver.send("stop", control=True)
    batch = driver.claim_batch(names=[])
    assert (list(batch.items), batch.next_due) == ([], item.lease.expires_at)


def test_the_one_claimable_longest_comes_first(driver: Driver) -> None:
    driver.create("late", due=driver.clock.now() + 20)
    driver.create("early", due=driver.clock.now() + 10)
    driver.wait(30)
    assert [item.instance for item in driver.claim(max_items=1)] == ["early"]
    assert [item.instance for item in driver.claim(max_items=1)] == ["late"]


def test_more_says_that_max_items_cut_the_result(driver: Driver) -> None:
    driver.create("a", "b", "c")
    batch = driver.claim_batch(max_items=2)
    assert (len(batch.items), batch.more) == (2, True)
    assert batch.next_due == driver.clock.now()
    batch = driver.claim_batch(max_items=1)
    assert (len(batch.items), batch.more) == (1, False)


def test_max_items_may_be_nothing_or_huge_but_not_negative(driver: Driver) -> None:
    driver.create("a")
    assert driver.claim(max_items=0) == []
    for request in ({"max_items": -1}, {"lease_ms": 0}, {"max_messages": 0}):
        with pytest.raises(InvalidRequest):
            driver.claim(**request)
    assert len(driver.claim(max_items=10**9)) == 1


def test_tokens_are_never_used_twice(driver: Driver) -> None:
    driver.create("a")
    seen = set()
    for _ in range(300):
        item = driver.claim_one()
        seen.add(item.lease.token)
        driver.release(item.lease)
    assert len(seen) == 300


def test_next_due_counts_leases_only_where_work_waits(driver: Driver) -> None:
    item = driver.started(keep_ms=1000)
    assert driver.claim_batch().next_due is None
    timer = driver.clock.now() + 200
    driver.hub.send_messages([message("timer", due=timer)])
    assert driver.claim_batch().next_due == item.lease.expires_at - LEASE_MS + 1000
    assert driver.claim_batch(held=[item.lease]).next_due == timer
