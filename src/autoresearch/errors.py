"""Every error that this package raises on purpose.

    AutoResearchError
    ├── UserError          a person can cure it: one sentence says what is wrong, where, what to do
    │   ├── LabError       the lab (its git repository or its autoresearch.toml) is not usable
    │   └── LabIsBusyError another process holds the lab; it will let go of it
    └── LedgerError        the ledger cannot be read or written

A crashed run or a useless proposal is not an error: it is an outcome in the ledger.
The command line prints the message of an `AutoResearchError` alone, without a traceback,
and exits with 2.
"""


class AutoResearchError(Exception):
    """The root of the tree: its message is written for the person at the terminal."""


class UserError(AutoResearchError, ValueError):
    """A mistake that a person can cure; the message ends with the cure."""


class LabError(UserError):
    """The lab is not usable as it stands: the message names the file and the key."""


class LabIsBusyError(UserError):
    """Another process runs a campaign or a measurement on this lab just now."""


class LedgerError(AutoResearchError):
    """The ledger cannot be read or written; nothing already recorded is lost."""
