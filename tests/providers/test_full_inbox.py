"""An inbox that is full: our own providers take so many messages that the suite never gets there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.providers.conftest import provider_class

from perdure.spi import ManualClock, Outcome, Transient
from perdure_conformance.driver import Driver, activity, ids_of, message


def test_a_full_inbox_refuses_clients_alone(scheme: str, url: str, clock: ManualClock) -> None:
    given = provider_class(scheme)(url, clock=clock).limits
    small = type("Small", (provider_class(scheme),), {"limits": replace(given, max_pending=2)})  # type: ignore[arg-type]
    with small(url, clock=clock) as provider:
        provider.create_hub("h")
        driver = Driver(provider.hub("h"), clock)
        driver.started(activities=[activity()], messages=[message("1"), message("2"), message("3")])
        driver.complete(driver.claim_one_work(), message("4"))
        with pytest.raises(Transient):
            driver.send("5")
        assert ids_of(driver.turn().messages) == ["1", "2", "3", "4"]
        with pytest.raises(Transient):
            driver.send("5", "6", "7")
        assert driver.send("5", "6") == [Outcome.OK, Outcome.OK]
