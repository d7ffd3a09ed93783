"""What the SQL providers share: the tables, the framing of history, queries, and what operations decide.

It knows no driver. A provider executes what is asked of its `Reader` and its `Transaction`, in its own way.
"""

from perdure_sql.framing import CorruptRow, pack_events, unpack_events
from perdure_sql.hub import SqlHub
from perdure_sql.queries import INFO_COLUMNS, info_select, instance_page, matching_ids, to_info
from perdure_sql.tables import Tables
from perdure_sql.transaction import Found, Reader, Transaction
from perdure_sql.work import Work

__all__ = [
    "INFO_COLUMNS",
    "CorruptRow",
    "Found",
    "Reader",
    "SqlHub",
    "Tables",
    "Transaction",
    "Work",
    "info_select",
    "instance_page",
    "matching_ids",
    "pack_events",
    "to_info",
    "unpack_events",
]
