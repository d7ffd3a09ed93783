"""Purging: an instance with all that is its own, in one step."""

from __future__ import annotations

import pytest

from perdure.spi import InstanceQuery, InvalidRequest, NotFound, Outcome
from perdure_conformance.driver import ENDED, FAILED, LEASE_MS, RUNNING, Driver, activity, ids_of, message


def test_an_ended_instance_is_gone_and_its_id_free(driver: Driver) -> None:
    driver.create("a")
    driver.send("m")
    driver.turn(status=FAILED, events=[b"e"])
    result = driver.purge("a")
    assert (result.deleted, result.complete, list(result.outcomes)) == (1, True, [Outcome.OK])
    assert driver.hub.get_instances(["a"]) == [None]
    with pytest.raises(NotFound):
        driver.hub.read_history("a")
    assert driver.send("m") == [Outcome.NOT_FOUND]
    assert driver.create("a") == [Outcome.OK]
    assert driver.get().next_seq == 0
    assert driver.send("m") == [Outcome.OK]


def test_a_running_instance_is_in_the_way(driver: Driver) -> None:
    driver.started("a", activities=[activity()])
    driver.ended("b")
    before = driver.get("a")
    result = driver.purge("a", "nobody", "b")
    assert list(result.outcomes) == [Outcome.CONFLICT, Outcome.NOT_FOUND, Outcome.OK]
    assert (result.deleted, result.complete) == (1, True)
    assert driver.get("a") == before
    assert len(driver.claim_work()) == 1


def test_force_takes_it_and_whoever_leases_it_is_lost(driver: Driver) -> None:
    driver.started("a", activities=[activity()], messages=[message("timer", due=driver.clock.now() + 5)])
    work = driver.claim_one_work()
    driver.send()
    item = driver.claim_one()
    assert driver.purge("a", force=True).deleted == 1
    assert driver.commit(item, events=[b"x"]) is Outcome.LOST
    assert driver.renew(item.lease) == (Outcome.LOST, None)
    assert driver.renew(work.lease) == (Outcome.CANCELLED, None)
    assert driver.complete(work, message("r")) is Outcome.LOST
    assert driver.hub.get_instances(["a"]) == [None]
    driver.create("a")
    assert driver.commit(item) is Outcome.LOST
    driver.wait(LEASE_MS)
    assert ids_of(driver.claim_one().messages) == ["@start"]
    assert driver.claim_work() == []


def test_a_query_purges_what_it_matches_and_has_ended(driver: Driver) -> None:
    start = driver.clock.now()
    for name in ("old1", "old2"):
        driver.ended(name)
    driver.started("old3")
    driver.wait(1000)
    driver.ended("new")
    query = InstanceQuery(completed_to=start + 1000, page_size=1, descending=True)
    result = driver.purge(query=query)
    assert (result.deleted, result.complete, list(result.outcomes)) == (2, True, [])
    assert driver.find() == ["old3", "new"]
    assert driver.purge(query=InstanceQuery(statuses=[RUNNING])).deleted == 0
    assert driver.purge(query=InstanceQuery(statuses=[RUNNING]), force=True).deleted == 1
    assert driver.purge(query=InstanceQuery(statuses=[])).deleted == 0
    assert driver.find() == ["new"]


def test_a_limit_ends_a_purge_early(driver: Driver) -> None:
    for number in range(5):
        driver.ended(f"i{number}")
    counts = []
    while True:
        result = driver.purge(query=InstanceQuery(), limit=2)
        counts.append(result.deleted)
        if result.complete:
            break
    assert sum(counts) == 5
    assert max(counts) == 2
    for number in range(3):
        driver.ended(f"i{number}")
    result = driver.purge("i0", "i1", "i2", limit=2)
    assert (result.deleted, result.complete) == (2, False)
    assert list(result.outcomes) == [Outcome.OK, Outcome.OK]


def test_a_budget_ends_a_purge_early_and_calling_again_finishes(driver: Driver) -> None:
    for number in range(20):
        driver.ended(f"i{number}")
    deleted = 0
    for _ in range(21):
        result = driver.purge(query=InstanceQuery(), budget_ms=0)
        deleted += result.deleted
        if result.complete:
            break
    assert (deleted, driver.find()) == (20, [])


def family(driver: Driver) -> None:
    """Make root > child > grandchild, all ended, and one who only has a similar name."""
    driver.ended("root")
    for name, parent in [("child", "root"), ("grandchild", "child"), ("other", "roo")]:
        driver.create(name, parent=parent)
    for item in driver.claim():
        driver.commit(item, status=FAILED)


def test_cascade_takes_descendants_along(driver: Driver) -> None:
    family(driver)
    assert driver.purge("root", cascade=True).deleted == 3
    assert driver.find() == ["other"]


def test_without_cascade_descendants_stay(driver: Driver) -> None:
    family(driver)
    assert driver.purge("root").deleted == 1
    assert driver.find() == ["child", "grandchild", "other"]


def test_a_running_descendant_is_in_the_way_of_the_whole_family(driver: Driver) -> None:
    family(driver)
    driver.create("late", parent="grandchild")
    result = driver.purge("root", cascade=True)
    assert (list(result.outcomes), result.deleted) == ([Outcome.CONFLICT], 0)
    assert len(driver.find()) == 5
    assert driver.purge("root", cascade=True, force=True).deleted == 4
    assert driver.find() == ["other"]


def test_a_query_cascades_too(driver: Driver) -> None:
    family(driver)
    result = driver.purge(query=InstanceQuery(id_prefix="root"), cascade=True)
    assert (result.deleted, result.complete) == (3, True)
    assert driver.purge(query=InstanceQuery(statuses=ENDED), cascade=True).deleted == 1


def test_the_first_family_goes_whatever_the_limit(driver: Driver) -> None:
    family(driver)
    driver.ended("second")
    result = driver.purge("root", "second", cascade=True, limit=1)
    assert (result.deleted, result.complete, list(result.outcomes)) == (3, False, [Outcome.OK])
    family(driver)
    result = driver.purge(query=InstanceQuery(id_prefix="root"), cascade=True, limit=2)
    assert (result.deleted, driver.find()) == (3, ["other", "second"])


def test_a_query_passes_over_families_with_a_member_that_runs(driver: Driver) -> None:
    family(driver)
    driver.create("late", parent="grandchild")
    result = driver.purge(query=InstanceQuery(), cascade=True)
    assert (result.deleted, result.complete) == (1, True)
    assert sorted(driver.find()) == ["child", "grandchild", "late", "root"]
    assert driver.purge(query=InstanceQuery(), cascade=True, force=True).deleted == 4


def test_an_id_twice_is_purged_once(driver: Driver) -> None:
    driver.ended("a")
    assert list(driver.purge("a", "a").outcomes) == [Outcome.OK, Outcome.NOT_FOUND]


def test_either_ids_or_a_query(driver: Driver) -> None:
    with pytest.raises(InvalidRequest):
        driver.purge()
    with pytest.raises(InvalidRequest):
        driver.purge("a", query=InstanceQuery())


def test_no_ids_purge_nothing(driver: Driver) -> None:
    driver.ended("a")
    result = driver.purge(ids=[])
    assert (result.deleted, result.complete, list(result.outcomes)) == (0, True, [])
