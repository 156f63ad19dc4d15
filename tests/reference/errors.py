"""The errors of spec section 1. `name` is what vectors call them."""

from collections.abc import Iterable


class Refusal(Exception):  # noqa: N818 - as the specification calls it
    """Base of all five."""

    name = ""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Decode(Refusal):
    name = "DecodeError"


class Parameter(Refusal):
    name = "ParameterError"


class Local(Refusal):
    name = "LocalError"


class Peer(Refusal):
    name = "PeerError"

    def __init__(self, reason: str, peer: int, stage: str) -> None:
        super().__init__(reason)
        self.peer, self.stage = peer, stage


class Abort(Refusal):
    name = "ProtocolAborted"

    def __init__(self, reason: str, stage: str, blame: Iterable[int] = ()) -> None:
        super().__init__(reason)
        self.stage, self.blame = stage, sorted(blame)
