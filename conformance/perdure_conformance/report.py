"""What a run found out: results, the verdict by level, and the document that holds both."""

from __future__ import annotations

import datetime
import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias

from perdure.spi import SPI_VERSION, ProviderURL
from perdure_conformance import SUITE_VERSION
from perdure_conformance.bench import Session
from perdure_conformance.case import Case, Level
from perdure_conformance.guard import Escaped, TimedOut, guarded
from perdure_conformance.suite import canonical_cases, content_hash
from perdure_conformance.waivers import Waiver
from perdure_conformance.wording import Wording, text_of

__all__ = ["LevelResult", "Outcome", "Report", "Result", "describe"]

Outcome: TypeAlias = Literal["pass", "fail", "error", "n/a", "not-run", "waived", "missing"]
"""`n/a`: a capability is not declared, and its negative check passed. `missing`: it was not executed."""

# The worst of a case's variants is what the case is.
_BY_WEIGHT: Final[tuple[Outcome, ...]] = ("error", "fail", "missing", "not-run", "waived", "n/a", "pass")


@dataclass(slots=True, kw_only=True)
class Result:
    """What became of one case in one variant."""

    case: str
    variant: str
    outcome: Outcome
    seconds: float = 0.0
    seed: int | None = None
    calls: int = 0
    """Calls of the hub's methods."""
    detail: str = ""
    """Why it was not run, or doesn't apply, or is waived."""
    expected: str = ""
    came: str = ""
    where: str = ""
    """File and line in the suite."""


@dataclass(slots=True, kw_only=True)
class LevelResult:
    """What became of one level's cases, each counted once."""

    level: Level
    counts: dict[Outcome, int]
    needs: Level | None = None
    """The lowest of the levels below it that applies and is not granted: nothing stands on a missing ground."""

    @property
    def total(self) -> int:
        """How many cases the level has."""
        return sum(self.counts.values())

    @property
    def granted(self) -> bool:
        """Whether every case that applies, of this level and those below it, was run and passed."""
        return self.needs is None and self.counts.get("pass", 0) > 0 and self.counts.keys() <= {"pass", "n/a"}

    @property
    def applies(self) -> bool:
        """Whether any case of the level applies to the provider."""
        return not self.counts.keys() <= {"n/a"}


@dataclass(slots=True, kw_only=True)
class Report:
    """All that is known after a run on one provider."""

    url: str
    """May hold a password: what is printed and written is redacted."""
    provider: Mapping[str, Any]
    level: Level
    """The highest that was asked for; those below it were too."""
    seed: int
    full: bool
    seconds: float
    results: Sequence[Result]
    waivers: Mapping[str, Waiver] = field(default_factory=dict)

    @property
    def printable_url(self) -> str:
        """The URL without passwords."""
        return str(ProviderURL.parse(self.url))

    def cases(self) -> list[tuple[Case, Outcome, list[Result]]]:
        """Return every case that was asked for, with what became of it and of each of its variants."""
        by_case: dict[str, dict[str, Result]] = {}
        for result in self.results:
            by_case.setdefault(result.case, {})[result.variant] = result
        found = []
        for spec in canonical_cases().values():
            if spec.level > self.level:
                continue
            done = by_case.get(spec.id, {})
            missing = Result(case=spec.id, variant="", outcome="missing")
            results = [done.get(variant, missing) for variant in spec.variants]
            worst = min((result.outcome for result in results), key=_BY_WEIGHT.index)
            found.append((spec, worst, results))
        return found

    def levels(self) -> list[LevelResult]:
        """Return the result of each level that was asked for."""
        counts: dict[Level, Counter[Outcome]] = {level: Counter() for level in Level if level <= self.level}
        for spec, outcome, _ in self.cases():
            counts[spec.level][outcome] += 1
        results: list[LevelResult] = []
        for level, count in counts.items():
            needs = next((below.level for below in results if below.applies and not below.granted), None)
            results.append(LevelResult(level=level, counts=dict(count), needs=needs))
        return results

    @property
    def conformant(self) -> bool:
        """Whether every level that was asked for is granted, those apart that don't apply to the provider.

        A run that executed less than all cases of those levels is never conformant.
        """
        levels = self.levels()
        return levels[0].granted and all(result.granted or not result.applies for result in levels)

    def document(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "report": 1,
            "suite": {"version": SUITE_VERSION, "content": content_hash()},
            "spi": ".".join(map(str, SPI_VERSION)),
            "url": self.printable_url,
            "provider": dict(self.provider),
            "conformant": self.conformant,
            "levels": [
                {"level": result.level.value, "granted": result.granted, "cases": result.total, **result.counts}
                for result in self.levels()
            ],
            "run": {
                "level": self.level.value,
                "full": self.full,
                "seed": self.seed,
                "seconds": round(self.seconds, 3),
                "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "python": platform.python_version(),
                "platform": f"{sys.platform} {platform.machine()}",
            },
            "waivers": [asdict(waiver) | {"expires": waiver.expires.isoformat()} for waiver in self.waivers.values()],
            "cases": [
                {
                    "id": spec.id,
                    "title": spec.title,
                    "level": spec.level.value,
                    "invariants": spec.invariants,
                    "requires": spec.requires,
                    "hooks": spec.hooks,
                    "outcome": outcome,
                    "results": [_result_document(result) for result in results],
                }
                for spec, outcome, results in self.cases()
            ],
        }


def _result_document(result: Result) -> dict[str, Any]:
    document = asdict(result)
    del document["case"]
    document["seconds"] = round(result.seconds, 4)
    return {key: value for key, value in document.items() if value not in ("", None)}


def describe(session: Session) -> dict[str, Any]:
    """Return what a provider says of itself, or what it raised when it was asked; plain, to cross processes."""
    clean = Wording(session.adapter.url).clean

    def plain(value: Any) -> Any:
        if value is None or type(value) in (bool, int):
            return value
        return clean(value if isinstance(value, str) else repr(value))

    try:
        with guarded(session.adapter.patience):
            provider = session.provider
            server = session.adapter.server_version(provider)
        return {
            "name": plain(provider.name),
            "version": plain(provider.version),
            "server": plain(server),
            "spi": ".".join(map(str, provider.SPI)),
            "capabilities": {name: plain(value) for name, value in asdict(provider.capabilities).items()},
            "limits": {name: plain(value) for name, value in asdict(provider.limits).items()},
        }
    except (Exception, SystemExit, TimedOut) as error:
        kind = "" if isinstance(error, Escaped) else f"{type(error).__name__}: "
        return {"error": clean(f"can't be opened: {kind}{text_of(error)}")}
