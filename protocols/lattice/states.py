"""Messages and states of `lattice`. Each state has the inner machine's state in it."""

from typing import Any, ClassVar

import msgspec

from protocols.base import BadAnswer, Message, State, Terminal
from secagg.codec import Bytes32, Count
from secagg.ring import RingVector


class Relay(Message, frozen=True, tag="lattice-relay"):
    """A message of the inner protocol, as it is, either way."""

    data: bytes


class Upload(Message, frozen=True, tag="lattice-upload"):
    """Client to server: a piece of the ciphertext, and with the last one the message in which
    the inner protocol uploads; empty before. Pieces come in order, numbered by `index`.
    """

    index: Count
    packed: bytes
    inner: bytes


class Nesting(State, frozen=True):
    """Base of the states in which the inner machine still runs, at the same stage.

    context: what messages are bound to now: `context0`, and from the upload on a digest of it
    with the inner protocol's own context, which binds model and cohort.
    """

    inner: Any
    context: Bytes32

    @property
    def stage(self) -> str:  # type: ignore[override]
        """The inner machine's."""
        stage: str = self.inner.stage
        return stage

    @property
    def expected_context(self) -> bytes:
        """See above."""
        return self.context


class Running(Nesting, frozen=True, tag="lattice-running"):
    """A client before its upload. The seeds are of its short key and of its errors."""

    key_seed: Bytes32
    error_seed: Bytes32


class Spent(Nesting, frozen=True, tag="lattice-spent"):
    """A client after its upload: it has neither key nor seeds any more."""


class Done(Terminal, frozen=True, tag="lattice-done"):
    """A client whose inner machine is done."""

    stage: ClassVar[str] = "done"


class Preparing(Nesting, frozen=True, tag="lattice-preparing"):
    """A server before uploads."""


class Collecting(Nesting, frozen=True, tag="lattice-collecting"):
    """A server that takes uploads. `pieces`: of those that are not complete yet; none of them
    is in `total`, the residues of the sum of ciphertexts.
    """

    total: RingVector
    pieces: dict[int, tuple[bytes, ...]]


class Opening(Nesting, frozen=True, tag="lattice-opening"):
    """A server that waits for the inner sum, U3 being fixed."""

    total: RingVector


class Finished(Terminal, frozen=True, tag="lattice-finished"):
    """The sum is known."""

    stage: ClassVar[str] = "finished"
    total: RingVector
    contributors: tuple[int, ...]
    dropped: dict[int, str]
    bad_answers: tuple[BadAnswer, ...]


def inside(state: State) -> Any:
    """The inner state of a state, or None."""
    return state.inner if isinstance(state, Nesting) else None


def with_inner(state: State, inner: Any) -> State:
    """The state with another inner state, or the inner state's bytes, in it."""
    return msgspec.structs.replace(state, inner=inner)
