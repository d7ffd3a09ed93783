"""Provider URLs: `scheme[+driver]://[user:password@]host/database?op_hub=default&...`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_plus, urlencode

from perdure.spi.errors import InvalidRequest

__all__ = ["DEFAULT_HUB", "ProviderURL", "redact"]

DEFAULT_HUB: Final = "default"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
_SHAPE = re.compile(rf"(?P<scheme>{_SCHEME.pattern})://(?P<rest>[^?#]*)(?:\?(?P<query>[^#]*))?", re.DOTALL)
# Greedy up to the last "@" of all: a password may hold one that nobody escaped, and a "?" or "#" before it.
_USERINFO = re.compile(r"(?P<user>[^:/?#@]*):(?P<password>.*)@", re.DOTALL)
_SECRET_KEY = re.compile(r"pass(word|wd)?|pwd|secret|token|key|credential|mechanismprop", re.IGNORECASE)


def redact(url: str) -> str:
    """Return `url` with passwords, in the authority or among the parameters, replaced by `***`.

    Works on text that is no proper URL too, since it is used on the way into error messages; where it can't
    tell what belongs to a password it hides too much.
    """
    scheme, sep, rest = url.partition("://")
    if not _SCHEME.fullmatch(scheme) or not sep:
        scheme = sep = ""
        rest = url
    rest = _USERINFO.sub(lambda found: f"{found['user']}:***@", rest, count=1)
    head, mark, query = rest.partition("?")
    if mark:
        query = "&".join(f"{k}=***" if _is_secret(k, v) else f"{k}{eq}{v}" for k, eq, v in _pairs(query))
    return f"{scheme}{sep}{head}{mark}{query}"


def _pairs(query: str) -> list[tuple[str, str, str]]:
    return [pair.partition("=") for pair in query.split("&")]


def _is_secret(name: str, value: str) -> bool:
    return bool(value and _SECRET_KEY.search(unquote_plus(name)))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProviderURL:
    """A parsed provider URL. Its `repr` and `str` never show a password."""

    scheme: str
    """In lower case, with its `+driver` if it has one."""
    rest: str
    """What stands between `://` and the parameters."""
    hub: str = DEFAULT_HUB
    """From `op_hub`."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Our own parameters (`op_*`), names without the prefix, `hub` left out."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """All others, meant for the driver; of one that is repeated the last."""
    query: str = ""
    """Those others as they were written."""

    @classmethod
    def parse(cls, url: str) -> ProviderURL:
        """Split `url`.

        Raises:
            InvalidRequest: it has no `scheme://`, names an `op_` parameter twice or with no value, or has a
                password that ends nobody knows where.
        """
        found = _SHAPE.fullmatch(url)
        if found is None:
            raise InvalidRequest(
                f"{redact(url)!r} is not a provider URL; write scheme://..., for example sqlite:///perdure.db, "
                "with a # in a password as %23"
            )
        query = found["query"] or ""
        if "@" in query and ":" in found["rest"]:
            raise InvalidRequest(
                f"{redact(url)!r} has an @ after its ?; write a ? in a password as %3F, an @ in a parameter as %40"
            )
        options: dict[str, str] = {}
        parameters: dict[str, str] = {}
        foreign: list[str] = []
        for written_name, equals, written_value in _pairs(query):
            name, value = unquote_plus(written_name), unquote_plus(written_value)
            if not name.startswith("op_"):
                if name:
                    parameters[name] = value
                    foreign.append(f"{written_name}{equals}{written_value}")
                continue
            option = name.removeprefix("op_")
            if option in options or not value:
                raise InvalidRequest(f"{name} must stand once, with a value, in {redact(url)!r}")
            options[option] = value
        hub = options.pop("hub", DEFAULT_HUB)
        return cls(
            scheme=found["scheme"].lower(),
            rest=found["rest"],
            hub=hub,
            options=options,
            parameters=parameters,
            query="&".join(foreign),
        )

    def driver_url(self) -> str:
        """Return the URL without our own parameters, password included: for the driver alone."""
        return f"{self.scheme}://{self.rest}" + (f"?{self.query}" if self.query else "")

    def __str__(self) -> str:
        own = {"op_hub": self.hub, **{f"op_{name}": value for name, value in self.options.items()}}
        if self.hub == DEFAULT_HUB:
            del own["op_hub"]
        query = "&".join(part for part in (urlencode(own), self.query) if part)
        return redact(f"{self.scheme}://{self.rest}" + (f"?{query}" if query else ""))

    def __repr__(self) -> str:
        return f"ProviderURL({str(self)!r})"
