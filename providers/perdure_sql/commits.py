"""Committing turns."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.spi import START_MESSAGE_ID, UNSET, LeaseKind, OrchestrationStatus, Outcome, TurnCommit
from perdure_sql.instances import create_instance
from perdure_sql.messages import deliver, load_targets
from perdure_sql.reach import told_by
from perdure_sql.rows import SEEN_ALL, SEEN_CONTROL, TERMINAL, Header, InstanceRow, key_of
from perdure_sql.work import Work

__all__ = ["commit_turns"]


def commit_turns(work: Work, commits: Sequence[TurnCommit]) -> list[Outcome]:
    """Apply turns one after the other; each sees those before it."""
    if not commits:
        return []
    _load(work, commits)
    outcomes = [_commit_turn(work, commit) for commit in commits]
    work.flush()
    return outcomes


def _load(work: Work, commits: Sequence[TurnCommit]) -> None:
    ids = {message.instance for commit in commits for message in told_by(commit)}
    ids.update(new.id for commit in commits for new in commit.starts)
    keys = [key_of(commit.lease, LeaseKind.TURN) for commit in commits]
    work.load(keys, ids)
    own = [
        (key, message_id)
        for key, commit in zip(keys, commits, strict=True)
        if key in work.rows
        for message_ids in (commit.consumed, commit.cancel_messages)
        for message_id in message_ids
    ]
    if own:
        work.load_messages(own)
    load_targets(work, (message for commit in commits for message in told_by(commit)))


def _commit_turn(work: Work, commit: TurnCommit) -> Outcome:
    row = work.rows.get(key_of(commit.lease, LeaseKind.TURN))
    if row is None:
        return Outcome.LOST
    # Before the token: the commit that is repeated may have released the lease.
    if commit.commit_id == row.commit_id:
        return Outcome.ALREADY
    if not row.owned_by(commit.lease):
        return Outcome.LOST
    if commit.execution != row.execution or commit.expected_next_seq != row.next_seq:
        return Outcome.CONFLICT
    if commit.rewrite:
        work.drop_history(row)
    if commit.continued is None:
        work.append(row, commit.events)
    _consume(work, row, commit.consumed)
    for lease in commit.settled:
        work.settle(row, lease)
    _change_activities(work, row, commit)
    _send(work, row, commit)
    _set_state(work, row, commit)
    _leave(work, row, commit)
    return Outcome.OK


def _consume(work: Work, row: InstanceRow, message_ids: Sequence[str]) -> None:
    for message_id in message_ids:
        if message_id == START_MESSAGE_ID:
            if row.seen_kinds != SEEN_CONTROL:
                row.start_due = None
            continue
        header = work.headers.get((row.key, message_id))
        if header is not None and _was_seen(row, header):
            work.remove_message(row, message_id, header)
            if header.client:
                work.remember(row, message_id)


def _was_seen(row: InstanceRow, header: Header) -> bool:
    """Tell whether the last claim delivered a message: what arrived meanwhile must stay."""
    return (
        header.seq < row.seen_arrivals
        and (header.due, header.seq) <= (row.seen_due, row.seen_seq)
        and (row.seen_kinds == SEEN_ALL or bool(header.control))
    )


def _change_activities(work: Work, row: InstanceRow, commit: TurnCommit) -> None:
    kept = commit.activities
    if commit.cancel_all:
        if kept:
            # One that exists already is the same activity, and one from before.
            before = work.activity_ids(row)
            kept = [new for new in kept if new.id not in before]
        work.cancel_activities(row)
    for new in kept:
        work.schedule(row, new)
    # After the inserts, so that scheduling and cancelling in one turn leaves nothing behind.
    for activity_id in commit.cancel_activities:
        work.cancel_activity(row, activity_id)


def _send(work: Work, row: InstanceRow, commit: TurnCommit) -> None:
    """Start children, send messages, cancel own ones: whoever can't take a message doesn't get it."""
    # An instance can't replace itself half way through its own commit.
    settled = {row.id}
    for new in commit.starts:
        outcome = create_instance(work, new, settled)
        if outcome is Outcome.EXISTS and new.on_conflict is not None:
            deliver(work, new.on_conflict)
    # After the starts, so that a child can be told something at once, behind its start.
    for message in commit.messages:
        deliver(work, message)
    for message_id in commit.cancel_messages:
        if message_id == START_MESSAGE_ID:
            row.start_due = None
            continue
        header = work.headers.get((row.key, message_id))
        if header is not None:
            work.remove_message(row, message_id, header)


def _set_state(work: Work, row: InstanceRow, commit: TurnCommit) -> None:
    work.touch(row)
    row.commit_id = commit.commit_id
    row.status = commit.status.value
    if commit.status is OrchestrationStatus.FAILED:
        work.set_state(row, "failure", commit.failure)
    work.set_state(row, "output", commit.output)
    work.set_state(row, "memo", commit.memo)
    if commit.custom_status is not UNSET:
        work.set_state(row, "custom_status", commit.custom_status)
        row.status_rev = row.rev
    following = commit.continued
    if following is not None:
        row.execution += 1
        work.drop_history(row)
        work.append(row, following.events)
        work.set_input(row, following.input)
        row.version = following.version


def _leave(work: Work, row: InstanceRow, commit: TurnCommit) -> None:
    """End the turn: release the lease or keep it, and let nothing wait for an instance that has ended."""
    row.attempt = 0
    ended = row.status in TERMINAL
    if ended:
        row.completed_at = row.updated_at
        work.wipe(row)
    if commit.keep_ms is None or ended:
        row.release(0)
    else:
        row.lease_until = work.now + commit.keep_ms
    if row.pending or row.start_due is not None:
        work.work = True
