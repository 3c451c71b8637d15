"""Every error Bursar raises, as one tree. `Refused` and what is below it stand in `bursar.state.refusals`.

BursarError
├── ConfigurationError        the graph or a setting is wrong: nothing ran (also a ValueError)
│   └── UnknownPrice          no price for a model: no price, no call
├── AmountError               not an amount of money (also a ValueError)
├── Refused                   a paid call was not sent, or an action not done; nothing was spent or changed by it
│   ├── BudgetExceeded        the call's worst case does not fit what is left
│   │   ├── Looping           the agent makes the same tool call over and over
│   │   └── AccountClosed     an incident closed the session's account until a person has acknowledged it
│   ├── ActionRefused         an action was not done: outside a run, after its end, out of order
│   │   ├── InDoubt           nobody knows whether an earlier attempt did it, so it is not done again
│   │   └── NotApproved       no person approved it: denied, late, used before, by somebody who may not
│   ├── BreakerOpen           the model or agent to be called has failed for several sessions lately
│   ├── Paused                a person has paused the agent, the tenant or everything
│   ├── NoSession             a metered model outside any session
│   ├── ScopeClosed           the agent's run has ended; code of the run that still works cannot spend
│   ├── LeaseLost             another run took the session over; nothing more of this run is paid or kept
│   ├── NetworkRefused        a last resort tried to open a connection
│   └── Unmetered             a chat model that was not metered ran inside a session
├── SessionBusy               another run owns the session
├── CipherError               stored data cannot be decrypted with the keys that are given
├── BadOutput                 a handler returned no report, or a report that cannot be kept (also TypeError, ValueError)
├── LedgerError               the ledger refuses: no such call or session, or a change that its state does not allow
└── DatabaseError             the database cannot be opened, is locked, read-only, full or of a newer version
"""


class BursarError(Exception):
    """Base of every error that Bursar raises on its own account."""


class ConfigurationError(BursarError, ValueError):
    """The graph or a setting is wrong; the message names it and the fix. Nothing ran."""


class UnknownPrice(ConfigurationError):
    """No price is known for a model, so no call to it can be bounded or sent."""


class AmountError(BursarError, ValueError):
    """The value is not an amount of money: a float, a NaN, an infinity, text that is no number."""


class SessionBusy(BursarError):
    """Another run owns the session; the message says which, for how long, and what to do. Nothing was read or paid."""


class CipherError(BursarError):
    """Stored data cannot be decrypted: its key is not given or is another key, or its row was changed."""


class BadOutput(BursarError, TypeError, ValueError):
    """A handler returned something that is no report, or a report that is too large or cannot be kept.

    `kind` is the name of the type that came instead of a report, "" if a report came.
    """

    def __init__(self, message: str = "", *, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class LedgerError(BursarError):
    """The ledger refuses: there is no such session or call, an argument is not valid, or a state forbids the change."""


class DatabaseError(BursarError):
    """The database cannot be used; the message says why and what to do."""
