"""Every exception this project raises on purpose, with the blame in its type.

* SecaggError
  x ParameterError    the configuration cannot be safe or cannot hold the sum: change it
  x DecodeError       bytes that a decoder refuses; a machine turns it into a PeerError
  * ProtocolError
    x LocalError      our own caller did something the protocol forbids
    x PeerError       a peer sent something wrong: who, at which stage, what was expected
    x ProtocolAborted the protocol cannot finish safely: why, and because of whom

Anything else that escapes from `secagg` or `protocols` is a bug. Messages of exceptions
never contain secrets; what may go back over a network is `code`, the stage and the peer only.
"""

from collections.abc import Iterable


class SecaggError(Exception):
    """Base class: catch this at the boundary."""

    code = "error"


class ParameterError(SecaggError, ValueError):
    """Parameters outside the range that is proved safe; says what to change."""

    code = "parameter"


class DecodeError(SecaggError, ValueError):
    """Bytes that are not the encoding of anything: wrong type, length, range or leftovers."""

    code = "decode"


class ProtocolError(SecaggError):
    """A rule of the protocol was broken. Abstract: one of its subclasses is raised."""


class LocalError(ProtocolError):
    """Our own caller broke a rule; no peer is to blame."""

    code = "local"


class PeerError(ProtocolError):
    """A peer broke a rule.

    `peer` is the party's number as the channel authenticated it, `stage` where this party
    stood, `expected` what a correct peer would have sent.
    """

    code = "peer"

    def __init__(self, reason: str, *, peer: int, stage: str, expected: str) -> None:
        super().__init__(f"party {peer}, stage {stage}: {reason}; expected {expected}")
        self.reason = reason
        self.peer = peer
        self.stage = stage
        self.expected = expected

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.reason, vars(self).copy())


class ProtocolAborted(ProtocolError):  # noqa: N818 - the outcome, in the papers' word
    """The protocol cannot finish safely; `blame` names the parties at fault, if any are."""

    code = "aborted"

    def __init__(self, reason: str, *, stage: str, blame: Iterable[int] = ()) -> None:
        self.reason = reason
        self.stage = stage
        self.blame = tuple(sorted(blame))
        named = f" (parties {', '.join(map(str, self.blame))})" if self.blame else ""
        super().__init__(f"aborted at stage {stage}: {reason}{named}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.reason, vars(self).copy())


def _rebuild(kind: type, reason: str, named: dict[str, object]) -> SecaggError:
    """Between processes, an exception's keyword arguments have to be carried by hand."""
    error: SecaggError = kind(reason, **{k: v for k, v in named.items() if k != "reason"})
    return error
