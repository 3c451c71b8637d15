"""What Genie answers before anything was imported: one line on how to begin."""

from typing import Final

from bursar.genie.household.records import Profile
from bursar.genie.household.source import Source

NO_DATA: Final = (
    "There is no data yet. Import your bank's files with `bursar import FILE…`, or try the sample with `bursar demo`."
)


def is_empty(source: Source) -> bool:
    """Whether `source` has nothing imported: no account, no transaction, no lot, no price, no profile."""
    held = source.accounts() or source.transactions(limit=1) or source.lots() or source.prices()
    return not held and source.profile() == Profile()
