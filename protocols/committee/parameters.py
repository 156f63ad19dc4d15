"""The public parameters of a committee session, and what is refused."""

from functools import cached_property

from protocols.base import Parameters
from secagg import ringset, vshare
from secagg.errors import ParameterError
from secagg.ringset import Plan
from secagg.seal import DEFAULT_SUITE, suite

MOST_DECRYPTORS = 100
MAX_HELD_BYTES = 2**29
STEP = 64
"""Polynomials in one upload message, 12 MB with set B."""


class CommitteeParameters(Parameters, frozen=True, dict=True):
    """Parameters, with the ring, the values' range and the committee.

    ring: `A` or `B` (`secagg.ringset`); largest: the largest value that a client contributes;
    corrupt: most clients that collude with the server; decryptors: n_d, parties n + 1 to
    n + n_d; threshold: how many of them open a sum (t); corrupt_decryptors: most of them that
    collude with the server (c); suite: of the sealed shares; step: most polynomials in one
    upload message.
    """

    ring: str
    largest: int
    corrupt: int
    decryptors: int
    threshold: int
    corrupt_decryptors: int
    suite: str
    step: int = STEP

    @property
    def stages(self) -> tuple[str, ...]:
        """Decryptors act in all but the second, clients in the second only."""
        return ("keys", "upload", "report", "open")

    @property
    def client_stages(self) -> tuple[str, ...]:
        """One message, and done."""
        return ("upload",)

    @property
    def helpers(self) -> int:
        """The decryptors."""
        return self.decryptors

    @property
    def helper_floor(self) -> int:
        """The threshold."""
        return self.threshold

    @property
    def helper_role(self) -> str:
        """What errors call one of them."""
        return "decryptor"

    @cached_property
    def plan(self) -> Plan:
        """How vectors become ciphertexts. Raises ParameterError."""
        return ringset.named(self.ring, self.clients, self.length, self.largest)

    @property
    def upload_bytes(self) -> int:
        """The ciphertext."""
        return self.plan.ciphertext_bytes

    @property
    def pieces(self) -> tuple[range, ...]:
        """The chunks of each upload message."""
        chunks = range(self.plan.chunks)
        return tuple(chunks[at : at + self.step] for at in range(0, len(chunks), self.step))

    @property
    def committee(self) -> range:
        """The decryptors' numbers, which are their Shamir points."""
        return range(self.clients + 1, self.clients + self.decryptors + 1)

    @property
    def sealed_bytes(self) -> int:
        """Bytes of one client's shares for one decryptor."""
        return suite(self.suite).sealed_bytes(vshare.share_bytes(self.plan.ring.degree))

    def check(self) -> None:
        """Raise ParameterError, in one sentence with the way out."""
        super().check()
        if not 1 <= self.largest < 2**self.modulus_bits:
            raise ParameterError(f"largest is {self.largest}; choose 1 to 2^modulus_bits - 1")
        if self.step < 1:
            raise ParameterError("a message carries at least 1 polynomial")
        if self.corrupt < 0 or self.floor - self.corrupt < 2:
            raise ParameterError(
                f"a sum of {self.floor} clients of whom {self.corrupt} collude has fewer than "
                "2 honest ones, which the security of the known key sum needs; raise floor"
            )
        self._check_committee()
        held = self.clients * self.decryptors * self.sealed_bytes
        if held > MAX_HELD_BYTES:
            raise ParameterError(
                f"the server would hold {held >> 20} MiB of sealed shares; choose a smaller "
                "committee, ring set A, or sum in two cohorts"
            )

    def _check_committee(self) -> None:
        if not 1 <= self.decryptors <= MOST_DECRYPTORS:
            raise ParameterError(f"{self.decryptors} decryptors; choose 1 to {MOST_DECRYPTORS}")
        if not self.corrupt_decryptors < self.threshold <= self.decryptors:
            raise ParameterError(
                f"threshold {self.threshold} of {self.decryptors} decryptors, of whom "
                f"{self.corrupt_decryptors} collude: choose more than collude, and at most all"
            )
        if 2 * self.threshold <= self.decryptors + self.corrupt_decryptors:
            raise ParameterError(
                f"two sets of {self.threshold} decryptors could open two sums of one session; "
                f"a threshold above {(self.decryptors + self.corrupt_decryptors) // 2} prevents it"
            )


def configure(  # noqa: PLR0913 - options are keywords
    clients: int,
    length: int,
    modulus_bits: int,
    *,
    decryptors: int = 5,
    threshold: int | None = None,
    corrupt_decryptors: int = 0,
    ring: str = "",
    largest: int | None = None,
    floor: int | None = None,
    corrupt: int = 0,
    suite: str = DEFAULT_SUITE,
    step: int = STEP,
) -> CommitteeParameters:
    """Checked parameters; by default t = floor((n_d + c) / 2) + 1, and a majority of clients
    must be in the sum. largest: by default any value below 2^modulus_bits; name the encoding's
    largest value to pack more.
    """
    Parameters(clients, min(2, clients), length, modulus_bits).check()
    most = 2**modulus_bits - 1 if largest is None else largest
    majority = max(clients // 2 + 1, 2 + corrupt)
    chosen = CommitteeParameters(
        clients=clients,
        floor=majority if floor is None else floor,
        length=length,
        modulus_bits=modulus_bits,
        ring=ringset.named(ring, clients, length, most).ring.name,
        largest=most,
        corrupt=corrupt,
        decryptors=decryptors,
        threshold=(decryptors + corrupt_decryptors) // 2 + 1 if threshold is None else threshold,
        corrupt_decryptors=corrupt_decryptors,
        suite=suite,
        step=step,
    )
    chosen.check()
    return chosen
