"""The steps from one version of the schema to the next, and which versions can be used.

How a step is taken is each database's own affair; all take a step, and write the version it leads to, in one
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from perdure.spi import MigrationStep, SchemaMismatch, SchemaStatus

__all__ = ["Step", "Version", "check_usable", "plan", "planned", "status_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A migration: one version further."""

    version: int
    description: str
    statements: tuple[str, ...]
    min_reader: int
    """The oldest version of the provider that can use the result."""

    def told(self) -> MigrationStep:
        """Return it as a caller sees it."""
        return MigrationStep(version=self.version, description=self.description, statements=self.statements)


class Version(NamedTuple):
    """What a store says of its schema."""

    current: int = 0
    """0 where there is none."""
    min_reader: int = 0
    dirty: bool = False
    """There are tables, but nothing tells of which version."""


def status_of(found: Version, latest: int) -> SchemaStatus:
    """Compare what was found with the newest version."""
    state: Literal["absent", "ok", "behind", "ahead", "dirty"] = "ok"
    if found.dirty:
        state = "dirty"
    elif found.current == 0:
        state = "absent"
    elif found.current < latest:
        state = "behind"
    elif found.current > latest and found.min_reader > latest:
        state = "ahead"
    return SchemaStatus(current=found.current, latest=latest, state=state)


def check_usable(found: SchemaStatus, store: str) -> None:
    """Raise unless the schema is one that this version can use.

    Args:
        found: the schema.
        store: what to call the store.

    Raises:
        SchemaMismatch: it is not.
    """
    versions = f"{store} has schema version {found.current}, this perdure uses {found.latest}"
    if found.state == "behind":
        raise SchemaMismatch(
            f"{versions}: stop the workers and migrate it with Provider.migrate(), or add op_migrate=auto to the URL"
        )
    if found.state == "ahead":
        raise SchemaMismatch(f"{versions}: install a newer perdure, or open another store")
    if found.state == "dirty":
        raise SchemaMismatch(
            f"{store} has tables of perdure but no readable schema version: restore it from a backup, or open another"
        )


def planned(steps: Sequence[Step], found: SchemaStatus, store: str, *, to: int | None = None) -> list[MigrationStep]:
    """Return the steps that a migration would take."""
    return [step.told() for step in plan(steps, found, store, to=to)]


def plan(steps: Sequence[Step], found: SchemaStatus, store: str, *, to: int | None = None) -> Sequence[Step]:
    """Return the steps from what was found to version `to` (None: the latest).

    Raises:
        SchemaMismatch: there is no way.
    """
    latest = steps[-1].version
    goal = latest if to is None else to
    if found.state == "dirty":
        check_usable(found, store)
    if to is None and found.current > latest:
        if found.state == "ahead":
            check_usable(found, store)
        return []
    if not max(found.current, 1) <= goal <= max(latest, found.current):
        raise SchemaMismatch(
            f"{store} has schema version {found.current}; there is no way to version {goal}: "
            f"this perdure can go forward only, up to {latest}"
        )
    return [step for step in steps if found.current < step.version <= goal]
