"""What our own providers say of themselves and of their stores, beyond what every provider must."""

from __future__ import annotations

from collections.abc import Callable

from perdure.spi import SPI_VERSION, ManualClock, Outcome, Provider
from perdure_conformance.driver import Driver, ids_of, message


def test_the_name_is_the_scheme(connect: Callable[[], Provider], scheme: str) -> None:
    assert (connect().name, connect().SPI) == (scheme, SPI_VERSION)


def test_a_store_outlives_its_last_handle(connect: Callable[[], Provider], clock: ManualClock) -> None:
    first = connect()
    first.create_hub("h")
    driver = Driver(first.hub("h"), clock)
    driver.create("a")
    assert driver.commit(driver.claim_one(), events=[b"e"], messages=[message("self")]) is Outcome.OK
    first.close()
    driver = Driver(connect().hub("h"), clock)
    assert driver.history() == [b"e"]
    assert ids_of(driver.claim_one().messages) == ["self"]
