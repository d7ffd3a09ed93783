"""What the SQL providers share: the tables, the framing of history, and queries over instances.

It knows no driver. A provider executes the statements with its own.
"""

from perdure_sql.history import CorruptRow, pack_events, unpack_events
from perdure_sql.queries import INFO_COLUMNS, info_select, instance_page, matching_ids, to_info
from perdure_sql.tables import Tables

__all__ = [
    "INFO_COLUMNS",
    "CorruptRow",
    "Tables",
    "info_select",
    "instance_page",
    "matching_ids",
    "pack_events",
    "to_info",
    "unpack_events",
]
