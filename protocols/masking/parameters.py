"""The public parameters of a masking session, and what is refused."""

from functools import cache

from protocols.base import Parameters
from secagg.errors import ParameterError
from secagg.graph import (
    SECURITY_FAILURE,
    Cohort,
    GraphParameters,
    choose_parameters,
    cohort_of,
    security_failure,
)
from secagg.seal import DEFAULT_SUITE, suite
from secagg.shamir import SECRET_BYTES, SHARE_BYTES

CANARY_BITS = 64
MAX_HELD_BYTES = 2**29
CHUNK = 1 << 22


class MaskingParameters(Parameters, frozen=True):
    """Parameters, with the communication graph, the sharing and the sealing suite.

    threshold: shares that recover a seed (t); degree: neighbours of a client, n - 1
    (complete graph) or an even number below; suite: `X25519` or `MLKEM768-X25519`;
    adversary: what the server is assumed to be; corrupt: most clients that collude with it
    (c, an absolute count); chunk: most coordinates in one upload message, a multiple of 8.
    """

    threshold: int
    degree: int
    suite: str
    adversary: str
    corrupt: int
    chunk: int = CHUNK

    @property
    def stages(self) -> tuple[str, ...]:
        """Bonawitz et al. 2017, figure 4."""
        consistency = ("consistency",) if self.active else ()
        return ("advertise", "share", "upload", *consistency, "unmask")

    @property
    def active(self) -> bool:
        """Whether the server is assumed to lie."""
        return self.adversary == "active"

    @property
    def complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == self.clients - 1

    @property
    def signed(self) -> bool:
        """In active mode."""
        return self.active

    @property
    def any_suffice(self) -> bool:
        """Where everybody holds shares of everybody, and those who were not asked are too few to
        answer anybody else, with all that are corrupt.
        """
        return self.complete and 2 * self.threshold > self.clients + self.corrupt

    @property
    def tolerated(self) -> int:
        """The most corrupt clients against which these parameters hold."""
        if not self.complete:
            return self.corrupt
        t = self.threshold
        split = 2 * t - self.clients - 1 if self.active else t - 1
        return min(self.floor - 2, split)

    @property
    def sealed_bytes(self) -> int:
        """How long what a client seals for one neighbour is: 32 bytes and two shares."""
        return suite(self.suite).sealed_between_bytes(SECRET_BYTES + 2 * SHARE_BYTES)

    @property
    def canary_zeros(self) -> int:
        """Zero coordinates of the canary: at least 64 bits that a wrong mask must hit."""
        return -(-CANARY_BITS // self.modulus_bits)

    @property
    def masked_length(self) -> int:
        """Coordinates of an upload: the vector, the canary's zeros and its one."""
        return self.length + self.canary_zeros + 1

    @property
    def pieces(self) -> tuple[slice, ...]:
        """The upload's messages: consecutive pieces of the masked vector."""
        starts = range(0, self.masked_length, self.chunk)
        return tuple(slice(at, min(at + self.chunk, self.masked_length)) for at in starts)

    def check(self) -> None:
        """Raise ParameterError, in one sentence with the way out."""
        super().check()
        if self.chunk < 8 or self.chunk % 8:
            raise ParameterError(f"chunk is {self.chunk}; choose a positive multiple of 8")
        self._check_adversary()
        self._check_graph()
        self._check_memory()

    def _check_adversary(self) -> None:
        suite(self.suite)
        if self.adversary not in ("semi-honest", "active"):
            raise ParameterError(f"adversary {self.adversary!r}: choose 'semi-honest' or 'active'")
        if not 0 <= self.corrupt <= self.floor - 2:
            raise ParameterError(
                f"a sum of {self.floor} clients with {self.corrupt} corrupt ones may reveal a "
                "single honest client; raise the floor or lower corrupt"
            )

    def _check_active(self) -> None:
        """Two sets of t clients share an honest one, so no two versions of U3 are confirmed."""
        n, t, c = self.clients, self.threshold, self.corrupt
        if not self.complete:
            raise ParameterError(
                "active mode needs the complete graph: a server that chooses a client's few "
                "neighbours can surround it with corrupt ones, or tell each a different story"
            )
        if 2 * t <= n + c:
            raise ParameterError(
                f"threshold {t} of {n} clients with {c} corrupt ones lets a server confirm two "
                f"different sums; take at least {(n + c) // 2 + 1}"
            )

    def _check_graph(self) -> None:
        n, t = self.clients, self.threshold
        if not self.complete and not (2 <= self.degree < n and self.degree % 2 == 0):
            raise ParameterError(
                f"degree {self.degree} with {n} clients: choose an even number below {n}, or "
                f"{n - 1} for the complete graph"
            )
        if not 2 <= t <= self.degree + 1:
            raise ParameterError(
                f"threshold {t} is not between 2 and the {self.degree + 1} holders of a "
                "client's shares; change it or the degree"
            )
        if self.active:
            self._check_active()
        if self.complete:
            self._check_complete()
        elif _insecurity(n, self.corrupt, n - self.floor, self.degree, t) > SECURITY_FAILURE:
            raise ParameterError(
                f"a graph of degree {self.degree} with threshold {t} does not hide {n} clients; "
                "take both from secagg.graph.choose_parameters"
            )

    def _check_complete(self) -> None:
        if self.threshold > self.floor:
            raise ParameterError(
                f"threshold {self.threshold} is more than the {self.floor} clients that may be "
                "left; lower it or raise the floor"
            )
        if self.threshold <= self.corrupt:
            raise ParameterError(
                f"threshold {self.threshold} can be met by the {self.corrupt} corrupt clients "
                "alone; raise it"
            )

    def _check_memory(self) -> None:
        held = self.clients * self.degree * self.sealed_bytes
        if held > MAX_HELD_BYTES:
            raise ParameterError(
                f"the server would hold {held / 2**20:.0f} MiB of sealed shares; use a k-regular "
                "graph (protocols.masking.sparse) or suite X25519"
            )


def configure(  # noqa: PLR0913 - the options of a protocol are keywords with defaults
    clients: int,
    length: int,
    modulus_bits: int,
    *,
    threshold: int | None = None,
    floor: int | None = None,
    suite: str = DEFAULT_SUITE,
    adversary: str = "semi-honest",
    corrupt: int = 0,
    chunk: int = CHUNK,
) -> MaskingParameters:
    """Checked parameters on the complete graph; by default t = floor((n + c) / 2) + 1, and a
    sum needs as many clients as a secret needs shares.
    """
    majority = max((clients + corrupt) // 2 + 1, 2)
    t = min(majority, clients) if threshold is None else threshold
    chosen = MaskingParameters(
        clients=clients,
        floor=max(t, corrupt + 2) if floor is None else floor,
        length=length,
        modulus_bits=modulus_bits,
        threshold=t,
        degree=clients - 1,
        suite=suite,
        adversary=adversary,
        corrupt=corrupt,
        chunk=chunk,
    )
    chosen.check()
    return chosen


def sparse(
    clients: int,
    length: int,
    modulus_bits: int,
    *,
    corrupt: float,
    dropout: float,
    suite: str = DEFAULT_SUITE,
    chunk: int = CHUNK,
) -> MaskingParameters:
    """Checked parameters on the smallest k-regular graph that is safe and completes with
    these fractions of corrupt and dropped clients; the complete graph where none is.
    """
    cohort = cohort_of(clients, corrupt, dropout)
    degree, threshold = choose_parameters(clients, corrupt, dropout, "semi-honest")
    chosen = MaskingParameters(
        clients=clients,
        floor=clients - cohort.dropped,
        length=length,
        modulus_bits=modulus_bits,
        threshold=threshold,
        degree=degree,
        suite=suite,
        adversary="semi-honest",
        corrupt=cohort.corrupt,
        chunk=chunk,
    )
    chosen.check()
    return chosen


@cache
def _insecurity(n: int, corrupt: int, dropped: int, degree: int, threshold: int) -> float:
    return security_failure(Cohort(n, corrupt, dropped), GraphParameters(degree, threshold))
