"""What a provider promises, in a sentence each: named beside every case, and printed with every failure."""

from __future__ import annotations

from typing import Final

__all__ = ["INVARIANTS"]

INVARIANTS: Final = {
    "I1": "An instance or activity has at most one current token; each claim installs a fresh one and a larger fence.",
    "I2": "A claim returns nothing that is under an unexpired lease, except to its holder; expires_at <= now is free.",
    "I3": "Commit, complete, renew and release act under the current token only; else LOST, and nothing changes. "
    "Expiry alone never makes a lease LOST.",
    "I4": "A commit is applied whole or not at all, for every reader and across a reopening.",
    "I5": "A repeated commit or create is ALREADY, a repeated complete LOST: nothing happens twice.",
    "I6": "History is contiguous from 0 to next_seq - 1, in order, byte for byte, and only a rewrite replaces it.",
    "I7": "A message is delivered when due, never before, never lost, and never again once consumed.",
    "I8": "In an instance the start comes first, then (stored due, arrival); among instances the longest claimable.",
    "I9": "What arrives under a lease makes the instance claimable right after it: no lost wake-up.",
    "I10": "next_due is never later than the moment at which the same request could claim something.",
    "I11": "An instance that has ended takes no message but a reopening one, and holds no activities or timers.",
    "I12": "Completing an activity deletes it and delivers its message in one step; a cancelled one can't be claimed.",
    "I13": "Cancels apply after the inserts of the same commit; cancel_all means those from before it.",
    "I14": "attempt counts claims since the last commit (turn) or since creation (activity), and is never below 0.",
    "I15": "Hubs are isolated: ids, claims, counts, purges, wake-ups, deletion.",
    "I16": "Payloads up to max_payload come back byte for byte; a larger one is TooLarge before any effect.",
    "I17": "Ids are compared as code points and sorted as UTF-8 bytes; a malformed one is a BadId.",
    "I18": "rev grows with every visible change, status_rev with the custom status; updated_at never goes back.",
    "I19": "What a handle wrote it reads; others read it within read_lag_ms.",
    "I20": "Closing or dying corrupts nothing: leases run out as usual.",
    "RESULTS": "One answer for each item, in the order asked; a stale item touches none of its neighbours; "
    "a malformed one makes the whole call raise, with its index and without effect.",
    "BATCH": "A call for many items makes about as many calls to the driver as a call for one.",
    "QUERIES": "A query returns what matches, each once, in (created_at, id) order, whatever happens meanwhile.",
    "PURGE": "A purge takes an instance with all that is its own, in one step, and nothing that runs unless forced.",
    "REPLACE": "A replaced instance is gone with everything that was its own; only rev goes on counting.",
    "STATUS": "custom_status, output and memo are three-valued: unset keeps, None clears, bytes (also empty) set.",
    "CLOCK": "An injected clock is the only clock; a jump in either direction loses and doubles nothing.",
    "ERRORS": "Errors are those of perdure.spi, typed, with their cause, and without a password.",
    "LIMITS": "Limits are true: at the limit works, one more is a typed error.",
    "CAPABILITIES": "What is declared works, and what is not raises Unsupported without effect.",
    "CALLER": "What is put down in a caller's transaction happens with its commit, or not at all.",
    "WAKE": "Hints are merged and may be lost, but one follows the last event; closing ends them and their threads.",
    "16KB": "A custom status is at most 16,384 bytes of UTF-16, checked at the call, never truncated.",
    "ENGINE": "The engine on this provider keeps its own promises: one result a step, the same history however run.",
}
"""By the name under which a case cites it. `docs/conformance.md` lists them."""
