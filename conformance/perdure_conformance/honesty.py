"""Negative checks: what is not declared must not half work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from perdure.spi import (
    Capabilities,
    Hub,
    InstanceQuery,
    NotFound,
    OrchestrationStatus,
    PurgeRequest,
    Unsupported,
)
from perdure_conformance.bench import Bench
from perdure_conformance.driver import message, new_instance

__all__ = ["NEGATIVE_CHECKS", "declares"]


def declares(capabilities: Capabilities, name: str) -> bool:
    """Tell whether a provider declares a capability."""
    value = getattr(capabilities, name)
    return bool(value != "none" if name == "push" else value)


def _check_tag_query(bench: Bench) -> None:
    bench.create("a", tags={"k": "v"})
    bench.ended("b")
    query = InstanceQuery(tags={"k": "v"})
    calls: list[Callable[[], object]] = [
        lambda: bench.hub.query_instances(query),
        # One that looks past the filter deletes what nobody asked for.
        lambda: bench.hub.purge(PurgeRequest(query=query)),
        lambda: bench.hub.purge(PurgeRequest(query=query, force=True)),
    ]
    for call in calls:
        with bench.unchanged("a", "b"), pytest.raises(Unsupported) as caught:
            call()
        assert caught.value.capability == "tag_query"
    assert sorted(ids(bench)) == ["a", "b"]


def _check_purge_cascade(bench: Bench) -> None:
    bench.ended("a")
    bench.create("b", parent="a")
    bench.turn(status=OrchestrationStatus.COMPLETED)
    for force in (False, True):
        asked = [
            PurgeRequest(ids=["a"], cascade=True, force=force),
            PurgeRequest(ids=[], cascade=True, force=force),
            PurgeRequest(query=InstanceQuery(), cascade=True, force=force),
            PurgeRequest(query=InstanceQuery(statuses=[]), cascade=True, force=force),
        ]
        for request in asked:
            with bench.unchanged("a", "b"), pytest.raises(Unsupported) as caught:
                bench.hub.purge(request)
            assert caught.value.capability == "purge_cascade"
    assert ids(bench) == ["a", "b"]


def _check_caller_transaction(bench: Bench) -> None:
    bench.started("a", events=[b"e"])
    asked: list[dict[str, Any]] = [{"starts": [new_instance("b")]}, {"messages": [message("m", "a")]}, {}]
    for fields in asked:
        with bench.unchanged("a", "b"), pytest.raises(Unsupported) as caught:
            bench.hub.enlist(object(), **fields)
        assert caught.value.capability == "caller_transaction"
    assert ids(bench) == ["a"]


def _check_push(bench: Bench) -> None:
    assert bench.hub.subscribe(print) is None, "subscribe works, but push is not declared"


def _check_single_txn_exchange(bench: Bench) -> None:
    hub = bench.provider.hub(bench.hub.name)
    assert type(hub).exchange is Hub.exchange, "exchange is overridden, but single_txn_exchange is not declared"


def _check_durable(bench: Bench) -> None:
    """Nothing is promised but that the store is whole, or empty, or without the hub."""
    bench.started("a", events=[b"e"])
    bench.reopen()
    try:
        (info,) = bench.hub.get_instances(["a"])
    except NotFound:
        return
    assert info is None or (info.next_seq == 1 and bench.history("a") == [b"e"])


def _check_nothing(bench: Bench) -> None:
    """What one handle in one thread can't see: a provider that is modest here does no harm."""


def ids(bench: Bench) -> list[str]:
    """Return the ids of all instances."""
    return [info.id for info in bench.hub.query_instances(InstanceQuery()).items]


NEGATIVE_CHECKS: Final[dict[str, Callable[[Bench], None]]] = {
    "durable": _check_durable,
    "concurrent_threads": _check_nothing,
    "multi_process": _check_nothing,
    "multi_host": _check_nothing,
    "server_clock": _check_nothing,
    "single_txn_exchange": _check_single_txn_exchange,
    "push": _check_push,
    "tag_query": _check_tag_query,
    "purge_cascade": _check_purge_cascade,
    "caller_transaction": _check_caller_transaction,
}
"""By capability: what is run on a provider that doesn't declare it, in place of the cases that need it."""
