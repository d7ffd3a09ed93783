"""The engine: rounds of one `exchange` each, and turns in between.

One thread drives it. While an exchange is in flight, finished activities gather for the next, so commits group
by themselves under load, and nothing waits to be grouped. What a commit makes ready comes back from the same
exchange, already leased.
"""

from __future__ import annotations

import logging
import queue
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from perdure.activities import ActivityRunner, refused_result
from perdure.conversion import DataConverter
from perdure.draft import Turn
from perdure.errors import Corrupt, InvalidRequest, ProviderError
from perdure.live import Live
from perdure.registry import Registry
from perdure.spi import (
    Activity,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    ExchangeResult,
    Fields,
    Hub,
    InstanceQuery,
    Lease,
    Limits,
    Millis,
    OrchestrationStatus,
    Outcome,
    Release,
    TurnItem,
)
from perdure.turn import TurnRunner

__all__ = ["Engine"]

logger = logging.getLogger("perdure")

_PUMP_SECONDS: Final = 5.0
_UNCLAIMED_CHECK_SECONDS: Final = 10.0
_UNCLAIMED_MS: Final = 5_000
_RETRY_SECONDS: Final = (0.02, 0.1, 0.5, 2.0, 5.0)
_QUARANTINE_MS: Final = 5_000
_RETRY_MS: Final = 100
_CACHED_INSTANCES: Final = 1_000


@dataclass(slots=True)
class _Running:
    activity: Activity
    renewed_at: float


class Engine:
    """Runs what one worker registered, on one hub.

    Args:
        hub: where the work is.
        registry: what it can run.
        converter: turns payloads into values and back.
        runner: where activities run.
        max_turns: instances claimed per round.
        max_activities: activities at once.
        lease_seconds: how long the worker may be silent before others take its work over.
        verify_replay: replay every turn beside the live one, and fail the instance on a difference.
        max_batch: items of one list in an exchange.
    """

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        converter: DataConverter,
        runner: ActivityRunner,
        *,
        max_turns: int,
        max_activities: int,
        lease_seconds: float,
        verify_replay: bool = False,
        max_batch: int = Limits().max_batch,
    ) -> None:
        self.now: Millis = hub.now()
        """The hub's time at the last exchange."""
        self._now_read_at = time.monotonic()
        self._hub = hub
        self._registry = registry
        self._runner = runner
        self._turns = TurnRunner(registry, converter, verify_replay=verify_replay)
        self._worker = uuid.uuid4().hex
        self._max_turns = max_turns
        self._max_activities = max_activities
        self._max_batch = max_batch
        self._lease_seconds = lease_seconds
        self._lease_ms = max(1, round(lease_seconds * 1000))
        self._cache: OrderedDict[str, Live] = OrderedDict()
        self._running: dict[str, _Running] = {}
        # What the next exchange has to say; kept until one has said it.
        self._pending: list[Turn] = []
        self._done: list[ActivityDone] = []
        self._releases: list[Release] = []
        self._failures = 0
        self._next_pump = 0.0
        self._next_unclaimed_check = time.monotonic() + _UNCLAIMED_CHECK_SECONDS
        self._reported: set[str] = set()

    @property
    def is_busy(self) -> bool:
        """Whether something runs here or is still to be written."""
        return bool(self._running or self._pending or self._done or self._releases)

    def estimate_now(self) -> Millis:
        """Return the hub's time without asking it, from any thread: for what nothing but a reader rests on."""
        return self.now + int((time.monotonic() - self._now_read_at) * 1000)

    def round(self, *, claim: bool = True) -> float:
        """Do one exchange and run the turns that it brings.

        Args:
            claim: ask for new work too.

        Returns:
            Seconds until the next round has something to do: 0 for at once, infinity for who knows.

        Raises:
            ProviderError: the hub can't be used any more; nothing of what is pending was written.
        """
        self._collect()
        exchange = self._exchange(claim=claim)
        try:
            self._housekeep()
            result = self._submit(exchange)
        except ProviderError as error:
            if not error.retryable:
                raise
            return self._back_off(error, getattr(error, "retry_after", None))
        except Exception as error:  # A provider's fault must not end the worker; all parts are safe to repeat.
            if self._failures == 0:
                logger.exception("unexpected error from the provider")
            return self._back_off(error, None)
        self._failures = 0
        if result is None:
            return 0.0
        self.now = result.now
        self._now_read_at = time.monotonic()
        self._settle(exchange, result)
        self._take_on(result)
        if self._pending or self._done or self._releases or not self._runner.finished.empty():
            return 0.0
        return self._until_next(result)

    def give_back(self, deadline: float) -> None:
        """Give back what still runs, unpenalised, and tell it so; then write what is pending.

        Args:
            deadline: when to give up, by `time.monotonic`; it is tried at least once.
        """
        self._collect()
        for running in self._running.values():
            self._runner.cancel(running.activity.lease.token)
            self._releases.append(Release(lease=running.activity.lease, penalize=False))
        self._running.clear()
        while True:
            delay = self.round(claim=False)
            if not self.is_busy:
                return
            if time.monotonic() + delay > deadline:
                break
            time.sleep(delay)
        logger.warning("could not give all work back; others take it over when its leases run out")

    def close(self) -> None:
        """Drop all cached orchestrators."""
        for live in self._cache.values():
            live.close()
        self._cache.clear()

    def _collect(self) -> None:
        while True:
            try:
                finished = self._runner.finished.get_nowait()
            except queue.Empty:
                return
            # What lost its lease meanwhile is nobody's result.
            if self._running.pop(finished.activity.lease.token, None) is not None:
                self._done.append(ActivityDone(lease=finished.activity.lease, message=finished.message))

    def _exchange(self, *, claim: bool) -> Exchange:
        free = self._max_activities - len(self._running)
        due = time.monotonic() - self._lease_seconds / 3
        most = self._max_batch
        renew = [running.activity.lease for running in self._running.values() if running.renewed_at <= due]
        return Exchange(
            commits=[turn.commit for turn in self._pending[:most]],
            done=self._done[:most],
            renew=renew[:most],
            renew_ms=self._lease_ms,
            releases=self._releases[:most],
            claim_turns=ClaimTurns(
                worker=self._worker,
                max_items=self._max_turns,
                lease_ms=self._lease_ms,
                names=frozenset(self._registry.orchestrators),
            )
            if claim
            else None,
            claim_activities=ClaimActivities(
                worker=self._worker,
                max_items=free,
                lease_ms=self._lease_ms,
                names=frozenset(self._registry.activities),
            )
            if claim and free > 0
            else None,
        )

    def _submit(self, exchange: Exchange) -> ExchangeResult | None:
        """Do the exchange; None where the provider refused a part of it, and the others went alone."""
        try:
            return self._hub.exchange(exchange)
        except InvalidRequest as error:
            if not self._pending and not self._done:
                raise
            logger.error("the provider refuses what a turn or an activity wants to store: %s", error)
            self._submit_one_by_one()
            return None

    def _settle(self, exchange: Exchange, result: ExchangeResult) -> None:
        """Take in what became of what the exchange said."""
        said = len(exchange.commits)
        pending, self._pending = self._pending[:said], self._pending[said:]
        del self._done[: len(exchange.done)]
        del self._releases[: len(exchange.releases)]
        for turn, outcome in zip(pending, result.commits, strict=True):
            self._settle_turn(turn, outcome)
        for done, outcome in zip(exchange.done, result.done, strict=True):
            if outcome is Outcome.LOST:
                logger.info("a result came too late: %s", done.lease.key)
        for lease, (outcome, renewed) in zip(exchange.renew, result.renewed, strict=True):
            self._settle_renewal(lease, outcome, renewed)

    def _settle_turn(self, turn: Turn, outcome: Outcome) -> None:
        live = turn.live
        if outcome in {Outcome.OK, Outcome.ALREADY}:
            if live is not None:
                self._keep(turn.item.instance, live)
            return
        logger.info("the turn of instance %r was not applied: %s", turn.item.instance, outcome.value)
        if live is not None:
            live.close()
        if outcome is Outcome.CONFLICT:
            # The lease is still ours, and the stored instance is not what was claimed: let it be claimed afresh.
            self._releases.append(Release(lease=turn.commit.lease))

    def _settle_renewal(self, lease: Lease, outcome: Outcome, renewed: Lease | None) -> None:
        running = self._running.get(lease.token)
        if running is None:
            return
        if outcome is Outcome.OK and renewed is not None:
            running.activity.lease = renewed
            running.renewed_at = time.monotonic()
        else:
            logger.warning(
                "activity %r of instance %r was %s; its result will be dropped",
                running.activity.name,
                running.activity.instance,
                "cancelled" if outcome is Outcome.CANCELLED else "taken over by another worker",
            )
            del self._running[lease.token]
            self._runner.cancel(lease.token)

    def _take_on(self, result: ExchangeResult) -> None:
        """Run the claimed turns and start the claimed activities."""
        if result.activities is not None:
            for activity in result.activities.items:
                self._start_activity(activity)
        if result.turns is None:
            return
        # Turns run one after the other, and while they do nothing is committed and nothing renewed. So long ones
        # must not eat up their own leases: what a third of one doesn't suffice for goes to whoever has time.
        late = time.monotonic() + self._lease_seconds / 3
        for place, item in enumerate(result.turns.items):
            if place and time.monotonic() > late:
                rest = result.turns.items[place:]
                self._releases += [Release(lease=unstarted.lease, penalize=False) for unstarted in rest]
                return
            self._run_turn(item)

    def _start_activity(self, activity: Activity) -> None:
        self._running[activity.lease.token] = _Running(activity, time.monotonic())
        try:
            self._runner.start(activity)
        except Exception:  # One activity must not end the worker, whatever is stored of it.
            logger.exception("an activity of instance %r could not start", activity.instance)
            del self._running[activity.lease.token]
            self._releases.append(Release(lease=activity.lease, delay_ms=_QUARANTINE_MS))

    def _run_turn(self, item: TurnItem) -> None:
        live = self._cache.pop(item.instance, None)
        if live is not None and not live.fits(item):
            live.close()
            live = None
        try:
            if item.error is not None:
                raise Corrupt(item.error)
            self._pending.append(self._turns.run(item, live, lambda: self._read_history(item), self.now))
        except Exception as error:  # One instance must not end the worker, whatever is wrong with it.
            if live is not None:
                live.close()
            self._quarantine(item, error)

    def _quarantine(self, item: TurnItem, error: Exception) -> None:
        """Set an instance aside whose turn can't run; one that is to be terminated needs no more than that."""
        if isinstance(error, ProviderError) and error.retryable:
            # Nothing is wrong with the instance: its history couldn't be read just now.
            logger.warning("a turn of instance %r could not run, and is tried again: %s", item.instance, error)
            release = Release(lease=item.lease, delay_ms=_RETRY_MS, penalize=False)
        else:
            ended = self._end_unreadable(item) if isinstance(error, Corrupt) else None
            if ended is not None:
                logger.warning("instance %r can't be read, and is terminated as asked", item.instance, exc_info=True)
                self._pending.append(ended)
                return
            logger.exception("a turn of instance %r could not run, and is tried again", item.instance)
            release = Release(lease=item.lease, delay_ms=_QUARANTINE_MS)
        # A control message would make it claimable at once, whatever the delay: then let the lease run out instead.
        if not any(message.control for message in item.messages):
            self._releases.append(release)

    def _end_unreadable(self, item: TurnItem) -> Turn | None:
        try:
            return self._turns.end_unreadable(item, lambda: self._read_history(item), self.now)
        except Exception:  # As in _run_turn: it stays where it is, and is tried again.
            logger.exception("instance %r can't be terminated now", item.instance)
            return None

    def _read_history(self, item: TurnItem) -> Iterator[bytes]:
        after = -1
        while after + 1 < item.next_seq:
            page = self._hub.read_history(item.instance, after=after)
            if not page.events:
                raise Corrupt(f"the history of instance {item.instance!r} ends at {after + 1}, before {item.next_seq}")
            yield from page.events
            after += len(page.events)

    def _keep(self, instance: str, live: Live) -> None:
        self._cache[instance] = live
        if len(self._cache) > _CACHED_INSTANCES:
            _, oldest = self._cache.popitem(last=False)
            oldest.close()

    def _back_off(self, error: Exception, retry_after: float | None) -> float:
        delay = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
        self._failures += 1
        if self._failures > 1:
            logger.warning("the provider fails (%d times now): %s; next try in %g s", self._failures, error, delay)
        self._abandon_silent()
        return delay if retry_after is None else max(delay, retry_after)

    def _abandon_silent(self) -> None:
        # Two thirds of a lease without a renewal: others may soon have it. What ends because it is told so has no
        # result worth recording, so it is given back at the next occasion.
        late = time.monotonic() - self._lease_seconds * 2 / 3
        for token, running in list(self._running.items()):
            if running.renewed_at <= late:
                del self._running[token]
                self._runner.cancel(token)
                self._releases.append(Release(lease=running.activity.lease, penalize=False))

    def _submit_one_by_one(self) -> None:
        """Find out which item the provider refuses, and let that one fail; the others go through."""
        pending, self._pending = self._pending, []
        done, self._done = self._done, []
        try:
            while pending:
                self._submit_turn(pending[0])
                del pending[0]
            while done:
                self._submit_result(done[0])
                del done[0]
        finally:
            # What an error of the provider left over is for the next round.
            self._pending += pending
            self._done += done

    def _submit_turn(self, turn: Turn) -> None:
        try:
            outcome = self._hub.commit_turns([turn.commit])[0]
        except InvalidRequest as error:
            if turn.is_refusal:
                self._releases.append(Release(lease=turn.commit.lease, delay_ms=_QUARANTINE_MS))
            else:
                self._pending.append(self._turns.refuse(turn, error))
        else:
            self._settle_turn(turn, outcome)

    def _submit_result(self, done: ActivityDone) -> None:
        try:
            self._hub.complete_activities([done])
        except InvalidRequest as error:
            self._done.append(ActivityDone(lease=done.lease, message=refused_result(done.message, error, self.now)))

    def _until_next(self, result: ExchangeResult) -> float:
        dues: list[float] = []
        for batch in (result.turns, result.activities):
            if batch is not None:
                if batch.more:
                    return 0.0
                if batch.next_due is not None:
                    dues.append(max(0.0, (batch.next_due - batch.now) / 1000))
        if self._running:
            oldest = min(running.renewed_at for running in self._running.values())
            dues.append(max(0.0, oldest + self._lease_seconds / 3 - time.monotonic()))
        return min(dues, default=float("inf"))

    def _housekeep(self) -> None:
        now = time.monotonic()
        if now >= self._next_pump:
            self._next_pump = now + _PUMP_SECONDS
            self._hub.pump()
        if now >= self._next_unclaimed_check and not self.is_busy:
            self._next_unclaimed_check = now + _UNCLAIMED_CHECK_SECONDS
            self._report_unclaimed()

    def _report_unclaimed(self) -> None:
        query = InstanceQuery(
            statuses={OrchestrationStatus.PENDING},
            created_to=self.estimate_now() - _UNCLAIMED_MS,
            page_size=20,
            fields=Fields.NONE,
        )
        try:
            pending = self._hub.query_instances(query).items
        except ProviderError as error:
            # Only a hint to people. If it is more, the exchange will say so.
            logger.warning("can't look for instances that nobody takes: %s", error)
            return
        for info in pending:
            if info.name not in self._registry.orchestrators and info.name not in self._reported:
                self._reported.add(info.name)
                logger.warning(
                    "instance %r waits for an orchestrator %r, which this worker doesn't register (it has: %s); start "
                    "a worker that does, or check the name",
                    info.id,
                    info.name,
                    ", ".join(sorted(self._registry.orchestrators)) or "none",
                )
