"""Every hard limit of the core, each with its reason. A provider's own limits are in `perdure.spi.Limits`."""

from __future__ import annotations

from typing import Final

__all__ = [
    "MAX_CUSTOM_STATUS_BYTES",
    "MAX_FAILURE_BASES_CHARS",
    "MAX_FAILURE_DEPTH",
    "MAX_FAILURE_MESSAGE_CHARS",
    "MAX_FAILURE_PROPERTIES_BRACKETS",
    "MAX_FAILURE_PROPERTIES_BYTES",
    "MAX_FAILURE_STACK_CHARS",
    "MAX_FAILURE_TYPE_CHARS",
    "MAX_ID_CHARS",
    "MAX_INT",
    "MAX_NAME_CHARS",
    "MAX_NESTING",
    "MAX_PAYLOAD_BYTES",
    "MAX_TAGS",
    "MAX_TAG_KEY_CHARS",
    "MAX_TAG_VALUE_CHARS",
    "MAX_TURN_INTAKE_BYTES",
    "MIN_INT",
]

MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
"""UTF-8 bytes of one JSON payload of a user's: input, output, event. The same on every provider, so that changing
the URL can't break an orchestration; with its envelope it fits a MongoDB document (16 MiB) and a gRPC message."""

MAX_CUSTOM_STATUS_BYTES: Final = 16 * 1024
"""UTF-16 bytes of a custom status. It is written with every turn that sets it and read by everyone who watches, so
it has to stay small; UTF-16 is how Durable Functions counts, whose users bring their statuses along."""

MAX_NESTING: Final = 200
"""Lists and objects inside each other in one JSON value. Encoders and readers of other languages give up somewhere
between 250 and 1000, and with 200 none of them is the first to notice."""

MIN_INT: Final = -(2**63)
"""The smallest integer in a payload: that of a signed 64-bit integer, the least that any JSON reader keeps exactly."""

MAX_INT: Final = 2**64 - 1
"""The largest integer in a payload: beyond it orjson reads a float, silently."""

MAX_ID_CHARS: Final = 256
"""Characters of an instance id: at most 1024 bytes of UTF-8, which every provider takes as a key."""

MAX_NAME_CHARS: Final = 256
"""Characters of the name of an orchestrator, an activity or an event: stored with every row that refers to it."""

MAX_TAGS: Final = 32
"""Tags of one instance: they are for finding it, each is a row of an index, and the data belongs to its input."""

MAX_TAG_KEY_CHARS: Final = 256
"""Characters of a tag's key, which is part of an index key."""

MAX_TAG_VALUE_CHARS: Final = 256
"""Characters of a tag's value, which is part of an index key."""

# A failure travels inside an event, for whose envelope a provider leaves 256 KiB over a user's payload. At most
# four bytes a character once control characters are written out, the bounds below come to
# 4 failures * (4 * (4000 + 8000 + 512 + 1024) + 8192) = 249,344 bytes, whatever the failures hold.

MAX_FAILURE_MESSAGE_CHARS: Final = 4000
"""Characters kept of an exception's message, from its head: some libraries put a whole response into it."""

MAX_FAILURE_STACK_CHARS: Final = 8000
"""Characters kept of a stack trace, from its tail: where it was raised is at the end."""

MAX_FAILURE_TYPE_CHARS: Final = 512
"""Characters kept of an exception's type name."""

MAX_FAILURE_BASES_CHARS: Final = 1024
"""Characters kept of the names of the classes that an exception derives from, nearest first."""

MAX_FAILURE_DEPTH: Final = 3
"""Inner failures kept under a failure: causes of causes of causes say nothing new."""

MAX_FAILURE_PROPERTIES_BYTES: Final = 8192
"""UTF-8 bytes of a failure's properties as JSON; larger ones are left out."""

MAX_FAILURE_PROPERTIES_BRACKETS: Final = 50
"""Brackets in them: few brackets are little nesting, of which the event around the failure needs some itself."""

MAX_TURN_INTAKE_BYTES: Final = 16 * 1024 * 1024
"""Bytes of messages that one turn takes in, but for a single larger one. A commit holds what a turn took in and what it
decided, and a provider bounds it (64 MiB by default): however much arrives at once must not fail an instance."""
