"""A node's own file of what must never happen twice, whatever becomes of Flower's Context.

Flower (1.41) sends a node's reply first and stores its Context afterwards, with one try whose
failure it only logs; and every run series has a Context of its own. So the claims are kept here:
on disk before a reply is returned, one file a node for all its runs. It has no secrets: sessions,
stages, and which models are spent.

Where it is, the node says: its configuration, or `secure_mod(store=...)`. Without one a node
knows no more than its Context does.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from logging import WARNING
from pathlib import Path

from flwr.app import Context
from flwr.common import log

from fl.flower.wire import Refusal
from fl.journal import SqliteJournal
from protocols.journal import Claim, Stored
from secagg.codec import Count, Value, decode, encode
from secagg.errors import LocalError
from secagg.kdf import digest

STORE = "secagg-store"
FILE = "secagg.journal"
"""The store's name in a folder."""
_NODE = 1
"""A node's number in its own store: the sessions' numbers differ from round to round."""

Where = Path | Callable[[Context], Path | None]


def configured_store(context: Context) -> Path | None:
    """What the node's configuration says: `--node-config 'secagg-store="/a/folder"'`, or none."""
    path = context.node_config.get(STORE)
    if path is None:
        return None
    if not path or not isinstance(path, str):
        raise Refusal(f"this node's {STORE} is {path!r}; name a folder or a file of its own")
    return Path(path).expanduser()


class Used(Value, frozen=True):
    """The last attempt at which our update of a model was uploaded, in which session, and whether
    it is spent: it may be known in a sum.
    """

    session: bytes
    attempt: Count
    spent: bool


class Store:
    """The file at `path`, or in the folder `path`. Raises LocalError where it is not ours.

    Sessions have 32 bytes, and the digests of models fewer: neither is taken for the other.
    """

    def __init__(self, path: Path) -> None:
        file = path / FILE if path.is_dir() else path
        self._journal = SqliteJournal(file, _NODE, digest("flower store"))

    def together(self) -> AbstractContextManager[None]:
        """One transaction. An abort is recorded; whatever else is raised undoes it."""
        return self._journal.together()

    def claim(self, claim: Claim) -> None:
        """We say this, once. LocalError: it was said, the session is closed, or the disk fails."""
        self._journal.commit(claim._replace(party=_NODE), _NOTHING)

    def close(self, session: bytes) -> None:
        """Nothing is said in this session any more."""
        self._journal.close(session, _NODE, _NOTHING)

    def used(self, model: bytes) -> Used | None:
        """What became of our update of this model."""
        stored = self._journal.latest(model, _NODE)
        return decode(stored.snapshot, Used) if stored else None

    def use(self, model: bytes, used: Used) -> None:
        """Record it. LocalError: the model is spent, or the attempt was made."""
        stored = Stored(encode(used), ())
        if used.spent:
            self._journal.close(model, _NODE, stored)
        else:
            stage = f"attempt {used.attempt}"
            self._journal.commit(Claim(model, _NODE, stage, used.session), stored)


_NOTHING = Stored(b"", ())


def open_store(path: Path | None) -> Store | None:
    """The store, or none; a node in a deployment then says so in its log."""
    if path is not None:
        return Store(path)
    if "ray" not in sys.modules:  # else a simulation, whose nodes have no disk of their own
        warn_without_store()
    return None


@cache
def warn_without_store() -> None:
    """Once a process."""
    log(
        WARNING,
        "secagg: this node has no store. What it said and spent is in Flower's Context only, which "
        "is stored after a reply is sent, and not seen by other runs: set %s in --node-config",
        STORE,
    )


def refused(claim: Claim, error: LocalError) -> Refusal:
    """What the other end may know of a claim that failed; our own log has it all."""
    log(WARNING, "secagg: %s", error)
    return Refusal(
        f"our messages of stage {claim.stage} were said before, the session is closed, or this "
        "cannot be recorded; every node needs its own store"
    )
