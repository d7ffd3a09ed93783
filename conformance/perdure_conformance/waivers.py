"""Waivers: cases that a provider is known to fail, for a while and for a reason."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Waiver", "WaiverProblem", "read_waivers"]


class WaiverProblem(Exception):
    """A file of waivers can't be used."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Waiver:
    """Leave to fail one case."""

    case: str
    """Its id, or `ID[variant]` where it has variants."""
    reason: str
    issue: str
    """Where the mending is followed: a URL, or a number."""
    expires: datetime.date
    """The last day on which it holds."""

    def has_expired(self, today: datetime.date) -> bool:
        """Tell whether it holds no more."""
        return today > self.expires


def read_waivers(path: Path, known: Collection[str]) -> dict[str, Waiver]:
    """Read a TOML file of tables `[[waiver]]` with `case`, `reason`, `issue` and `expires`.

    Args:
        path: the file.
        known: ids of all cases.

    Returns:
        The waivers by case.

    Raises:
        WaiverProblem: the file can't be read, or an entry in it is not complete; says which and how to mend it.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WaiverProblem(f"{path} can't be read: {error}") from error
    entries = document.get("waiver", [])
    if not isinstance(entries, list) or document.keys() - {"waiver"}:
        raise WaiverProblem(f"{path} may hold tables [[waiver]] and nothing else")
    waivers: dict[str, Waiver] = {}
    for entry in entries:
        waiver = _read_waiver(path, entry)
        if waiver.case not in known:
            raise WaiverProblem(f"{path}: there is no case {waiver.case!r}")
        if waiver.case in waivers:
            raise WaiverProblem(f"{path}: {waiver.case} is waived twice")
        waivers[waiver.case] = waiver
    return waivers


def _read_waiver(path: Path, entry: object) -> Waiver:
    if not isinstance(entry, dict) or entry.keys() != {"case", "reason", "issue", "expires"}:
        raise WaiverProblem(f"{path}: a waiver has exactly: case, reason, issue, expires; not {entry!r}")
    expires = entry["expires"]
    if type(expires) is not datetime.date:
        raise WaiverProblem(f"{path}: expires is a date without quotes, as 2027-01-31; not {expires!r}")
    texts = {key: entry[key] for key in ("case", "reason", "issue")}
    for key, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise WaiverProblem(f"{path}: {key} is a text that says something; not {text!r}")
    return Waiver(expires=expires, **texts)
