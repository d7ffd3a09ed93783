"""Actionable data: the custom status makes an offer, and a click decides.

    perdure run examples/ticket_reservation.py --id trip --input '{"customer": "Ada", "tickets": 4}'

and, in another terminal, before the offer runs out:

    perdure show trip
    perdure raise-event trip BookingConfirmed --data '{"seats": "12A-12D"}'
"""

from __future__ import annotations

from dataclasses import dataclass

import perdure

DISCOUNT_PER_TICKET = 5
LARGEST_DISCOUNT = 30


@dataclass(frozen=True)
class Order:
    customer: str = "somebody"
    tickets: int = 1
    seconds_to_decide: float = 60


@dataclass(frozen=True)
class Confirmation:
    """What comes with the click."""

    seats: str


@dataclass(frozen=True)
class Booking:
    booked: bool
    discount: int
    """In percent."""
    seats: str | None = None


@perdure.activity
def compute_discount(ctx: perdure.ActivityContext, order: Order) -> int:
    return min(DISCOUNT_PER_TICKET * order.tickets, LARGEST_DISCOUNT)


@perdure.orchestrator
async def ticket_reservation(ctx: perdure.OrchestrationContext, order: Order | None) -> Booking:
    """Offer a discount for some time. Whoever reads the status can draw a button from it."""
    order = order or Order()
    discount = await ctx.call_activity(compute_discount, input=order)
    ctx.set_custom_status(
        {
            "discount": discount,
            "discountTimeout": order.seconds_to_decide,
            "bookingUrl": f"https://tickets.example/book/{ctx.instance_id}",
        }
    )
    try:
        # With `data_type`, data of another shape fail the reservation here, with a message that says what was expected.
        confirmation: Confirmation | None = await ctx.wait_for_external_event(
            "BookingConfirmed", timeout=order.seconds_to_decide, data_type=Confirmation
        )
    except TimeoutError:
        ctx.set_custom_status({"message": "The offer has run out."})
        return Booking(booked=False, discount=0)
    seats = confirmation.seats if confirmation else None  # a click without data leaves the seats to us
    ctx.set_custom_status({"message": f"Thank you for booking, {order.customer}!"})
    return Booking(booked=True, discount=discount, seats=seats)
