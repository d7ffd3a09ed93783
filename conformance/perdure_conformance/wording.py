"""What providers say, made fit to be printed and written: short, on any terminal, and without passwords."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from perdure.cli.output import printable
from perdure.spi import PerdureError, ProviderURL

__all__ = ["Wording", "difference", "text_of"]

_LONGEST: Final = 600
_CONTEXT: Final = 40
_SHORTEST_PASSWORD: Final = 4


class Wording:
    """How to speak of one provider.

    Args:
        url: its URL, of which the passwords are left out.
    """

    def __init__(self, url: str) -> None:
        self._replacements: list[tuple[str, str]] = []
        try:
            parsed = ProviderURL.parse(url)
        except PerdureError:
            return
        shown = str(parsed)
        password = parsed.rest.rpartition("@")[0].partition(":")[2]
        secrets = [value for name, value in parsed.parameters.items() if value and f"{name}=***" in shown]
        if not password and not secrets:
            return
        self._replacements = [(url, shown), (parsed.rest, ProviderURL.parse(shown).rest)]
        for secret in (password, unquote(password), *secrets):
            # A shorter one stands in every other word.
            if len(secret) >= _SHORTEST_PASSWORD:
                self._replacements.append((secret, "***"))

    def encodable(self, text: str) -> str:
        """Return a text that can be sent to another process and written to a file, without passwords."""
        for secret, shown in self._replacements:
            text = text.replace(secret, shown)
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    def clean(self, text: str) -> str:
        """Return a text that may also be shown on a terminal, and is not too long for it."""
        return _cut(printable(self.encodable(text)))


def difference(left: object, right: object) -> tuple[str, str]:
    """Return two things that are not equal as text, if they are long from where they differ."""
    texts = _repr(left), _repr(right)
    if max(map(len, texts)) <= _LONGEST:
        return texts
    equal = next((at for at, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(0, equal - _CONTEXT)
    if not start:
        return texts
    return f"...{texts[0][start:]}", f"...{texts[1][start:]}"


def text_of(error: BaseException) -> str:
    """Return an error's message; a broken provider's may have none that can be had."""
    try:
        return str(error)
    except Exception as second:
        return f"(no message: {type(second).__name__})"


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
