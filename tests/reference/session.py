"""What a session is: parameters and their rules, roster, contexts: spec section 3."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from tests.reference.errors import Decode, Parameter
from tests.reference.graph import failure
from tests.reference.identity import check_roster
from tests.reference.labels import digest, label
from tests.reference.seal import sealed_bytes
from tests.reference.wire import pack

SUITES = ("X25519", "MLKEM768-X25519")
ENVELOPE = 32 + 36 + 36


@dataclass(frozen=True)
class Parameters:
    """In the order in which they are encoded."""

    clients: int
    floor: int
    length: int
    modulus_bits: int
    threshold: int
    degree: int
    suite: str
    adversary: str
    corrupt: int
    chunk: int

    @property
    def active(self) -> bool:
        return self.adversary == "active"

    @property
    def complete(self) -> bool:
        return self.degree == self.clients - 1

    @property
    def masked_length(self) -> int:
        return self.length + -(-64 // self.modulus_bits) + 1

    @property
    def pieces(self) -> list[range]:
        starts = range(0, self.masked_length, self.chunk)
        return [range(at, min(at + self.chunk, self.masked_length)) for at in starts]

    def encoded(self) -> bytes:
        return pack(list(astuple(self)))

    def check(self) -> None:
        """The table of section 3, in its order. Or Parameter."""
        for good, why in self._basic() + self._sharing():
            if not good:
                raise Parameter(why)
        if not self.complete and not self._hides():
            raise Parameter("does not hide")
        if self.clients * self.degree * sealed_bytes(self.suite, ENVELOPE) > 2**29:
            raise Parameter("the server would hold")

    def _basic(self) -> list[tuple[bool, str]]:
        return [
            (self.clients >= 2, "a sum needs at least 2"),
            (self.floor <= self.clients, "lower it"),
            (self.floor >= 2, "would reveal one client"),
            (self.length >= 1, "the vector is empty"),
            (1 <= self.modulus_bits <= 64, "choose 1 to 64"),
            (self.chunk >= 8 and self.chunk % 8 == 0, "choose a positive multiple of 8"),
            (self.suite in SUITES, "no suite"),
            (self.adversary in ("semi-honest", "active"), "choose 'semi-honest' or 'active'"),
            (0 <= self.corrupt <= self.floor - 2, "may reveal a single honest client"),
        ]

    def _sharing(self) -> list[tuple[bool, str]]:
        n, t, c, active = self.clients, self.threshold, self.corrupt, self.active
        even = 2 <= self.degree < n and self.degree % 2 == 0
        return [
            (self.complete or even, "choose an even number"),
            (2 <= t <= self.degree + 1, "is not between 2 and"),
            (not active or self.complete, "active mode needs the complete graph"),
            (not active or 2 * t > n + c, "confirm two different sums"),
            (not active or t >= c + 2, "a single honest client in a sum"),
            (not self.complete or t <= self.floor, "that may be left"),
            (not self.complete or t > c, "corrupt clients alone"),
        ]

    def _hides(self) -> bool:
        n, dropped = self.clients, self.clients - self.floor
        if n - self.corrupt - dropped < 2:
            return False
        bound = failure(n, self.corrupt, dropped, self.degree, self.threshold)
        return bound <= Fraction(1, 2**40)


@dataclass(frozen=True)
class Member:
    """One line of a roster with keys."""

    name: str
    scheme: str
    key: bytes
    expires: str = ""

    def verify(self, signature: bytes, message: bytes) -> None:
        """Or Decode."""
        kind = {"Ed25519": Ed25519PublicKey, "ML-DSA-65": MLDSA65PublicKey}[self.scheme]
        try:
            kind.from_public_bytes(self.key).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise Decode("a signature does not verify") from None


def private_key(scheme: str, seed: bytes) -> Ed25519PrivateKey | MLDSA65PrivateKey:
    if scheme == "Ed25519":
        return Ed25519PrivateKey.from_private_bytes(seed)
    return MLDSA65PrivateKey.from_seed_bytes(seed)


def roster_digest(names: Sequence[str]) -> bytes:
    return digest("roster", *names)


def identity_digest(members: Sequence[Member]) -> bytes:
    """Of a roster that keeps to section 3. Or Parameter, or Decode."""
    check_roster(members)
    return digest(
        "identity roster",
        *(label("member", m.name, m.scheme, m.key, m.expires) for m in members),
    )


def application_digest(
    arrays: Sequence[tuple[str, str, Sequence[int], bytes]], configuration: bytes
) -> bytes:
    described = [
        label("array", name, dtype, label("shape", *shape), digest("array bytes", raw))
        for name, dtype, shape, raw in arrays
    ]
    return digest("application", configuration, *described)


@dataclass(frozen=True)
class Session:
    """One run. members: in active mode, otherwise empty."""

    parameters: Parameters
    session_id: bytes
    roster: bytes
    members: tuple[Member, ...] = ()

    @property
    def context0(self) -> bytes:
        return digest(
            "context0", "masking", self.parameters.encoded(), self.session_id, self.roster
        )


def cohort_context(context0: bytes, graph_seed: bytes, root: bytes) -> bytes:
    return digest("context1", context0, graph_seed, root)


def bound_context(context1: bytes, application: bytes) -> bytes:
    return digest("context2", context1, application)
