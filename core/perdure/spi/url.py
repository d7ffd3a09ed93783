"""Provider URLs: `scheme[+driver]://[user:password@]host/database?op_hub=default&...`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode

from perdure.spi.errors import InvalidRequest

__all__ = ["DEFAULT_HUB", "ProviderURL", "redact"]

DEFAULT_HUB: Final = "default"

_SHAPE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<rest>[^?#]*)(?:\?(?P<query>[^#]*))?", re.DOTALL)
# Greedy up to the last "@": a password may hold one that nobody escaped.
_USERINFO = re.compile(r"(?P<user>[^:/?#]*):(?P<password>.*)@", re.DOTALL)
_SECRET_KEY = re.compile(r"pass(word|wd)?|pwd|secret|token|key", re.IGNORECASE)


def redact(url: str) -> str:
    """Return `url` with passwords, in the authority or among the parameters, replaced by `***`.

    Works on text that is no proper URL too, since it is used on the way into error messages.
    """
    head, mark, query = url.partition("?")
    scheme, sep, rest = head.partition("://")
    if sep:
        rest = _USERINFO.sub(lambda found: f"{found['user']}:***@", rest, count=1)
    if mark:
        pairs = (pair.partition("=") for pair in query.split("&"))
        query = "&".join(f"{k}=***" if v and _SECRET_KEY.search(k) else f"{k}{eq}{v}" for k, eq, v in pairs)
    return f"{scheme}{sep}{rest}{mark}{query}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderURL:
    """A parsed provider URL. Its `repr` and `str` never show a password."""

    scheme: str
    """In lower case, with its `+driver` if it has one."""
    rest: str = field(repr=False)
    """What stands between `://` and the parameters."""
    hub: str = DEFAULT_HUB
    """From `op_hub`."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Our own parameters (`op_*`), names without the prefix, `hub` left out."""
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    """All others, meant for the driver."""

    @classmethod
    def parse(cls, url: str) -> ProviderURL:
        """Split `url`.

        Raises:
            InvalidRequest: it has no `scheme://`, or names an `op_` parameter twice or with no value.
        """
        found = _SHAPE.fullmatch(url)
        if found is None:
            raise InvalidRequest(
                f"{redact(url)!r} is not a provider URL; write scheme://..., for example sqlite:///perdure.db"
            )
        options: dict[str, str] = {}
        parameters: dict[str, str] = {}
        for name, value in parse_qsl(found["query"] or "", keep_blank_values=True):
            if not name.startswith("op_"):
                parameters[name] = value
                continue
            option = name.removeprefix("op_")
            if option in options or not value:
                raise InvalidRequest(f"{name} must stand once, with a value, in {redact(url)!r}")
            options[option] = value
        hub = options.pop("hub", DEFAULT_HUB)
        return cls(scheme=found["scheme"].lower(), rest=found["rest"], hub=hub, options=options, parameters=parameters)

    def driver_url(self) -> str:
        """Return the URL without our own parameters, password included: for the driver alone."""
        query = urlencode(self.parameters)
        return f"{self.scheme}://{self.rest}" + (f"?{query}" if query else "")

    def __str__(self) -> str:
        own = {"op_hub": self.hub, **{f"op_{name}": value for name, value in self.options.items()}}
        if self.hub == DEFAULT_HUB:
            del own["op_hub"]
        query = urlencode({**own, **self.parameters})
        return redact(f"{self.scheme}://{self.rest}" + (f"?{query}" if query else ""))
