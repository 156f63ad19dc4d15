"""The client in active mode: it takes nothing from the server that members have not signed.

Bonawitz et al. CCS 2017, figure 4, the parts for active adversaries. Every rule that a server
breaks is an abort: the machine forgets its secrets, and what it published stays masked.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from protocols.base import SERVER, Aborted, Contribute, Session, Step, on, receives
from protocols.masking import keys
from protocols.masking.bitmap import members_of
from protocols.masking.client import BaseClient
from protocols.masking.client_state import (
    Advertised,
    Bound,
    Confirmed,
    Done,
    Idle,
    Ready,
    Shared,
    Unconfirmed,
)
from protocols.masking.messages import (
    Cohort,
    Confirmation,
    Inbox,
    Keys,
    SurvivorSet,
    UnmaskProof,
)
from secagg.errors import DecodeError, LocalError, ProtocolAborted, ProtocolError
from secagg.identity import Roster
from secagg.rng import RandomSource
from secagg.seal import Sealer
from secagg.signing import Claim, Identity, verify_all


class ActiveClient(BaseClient):
    """A client that is safe from a server that lies. `signer` is its identity."""

    role = "active masking client"
    receivable = Cohort | Inbox | SurvivorSet | UnmaskProof
    states = Idle | Advertised | Shared | Ready | Bound | Unconfirmed | Confirmed | Done | Aborted

    def __init__(
        self, session: Session, me: int, source: RandomSource, sealer: Sealer, signer: Identity
    ) -> None:
        super().__init__(session, me, source, sealer)
        if session.members is None:
            raise LocalError("active mode needs the roster of identity keys in the session")
        self._members: Roster = session.members
        if signer.public != self._members.member(me).public:
            raise LocalError(f"this identity is not that of member {me} in the roster")
        self._signer = signer

    @on(Bound, Contribute)
    def upload(self, state: Bound, event: Contribute) -> Step[Unconfirmed]:
        """Stage 2: add the canary, the self mask and the pairwise masks, and pack."""
        pieces = self._masked_pieces(state, event.values)
        return Step(Unconfirmed(state.context, state.own_share, state.peers), pieces)

    @receives(Unconfirmed, SurvivorSet)
    def confirm(self, state: Unconfirmed, message: SurvivorSet, sender: int) -> Step[Confirmed]:
        """Stage 3: sign U3, once, if it can be what happened."""
        self._check_server(sender)
        self._check_survivors(state, message.survivors)
        what = keys.signed_survivors(state.context, message.survivors)
        confirmation = Confirmation(state.context, self._signer.sign(what))
        confirmed = Confirmed(state.context, state.own_share, state.peers, message.survivors)
        return Step(confirmed, ((SERVER, confirmation),))

    @receives(Confirmed, UnmaskProof)
    def answer(self, state: Confirmed, proof: UnmaskProof, sender: int) -> Step[Done]:
        """Stage 4: answer for the U3 that t of its members signed, as this client did."""
        self._check_server(sender)
        survivors = self._proved(state, proof)
        answer = self._answer(state.context, state.own_share, state.peers, survivors)
        return Step(Done(), ((SERVER, answer),))

    def _check_survivors(self, state: Unconfirmed, bitmap: bytes) -> None:
        parameters = self.parameters
        try:
            survivors = members_of(bitmap, parameters.clients)
        except DecodeError as error:
            raise self._fault(str(error)) from None
        if self.me not in survivors:
            raise self._fault("we uploaded, and are not among the survivors")
        if not survivors <= {self.me, *(peer.party for peer in state.peers)}:
            raise self._fault("survivors of whom we have no shares")
        self._require(len(survivors), parameters.floor, "clients uploaded")

    def _proved(self, state: Confirmed, proof: UnmaskProof) -> frozenset[int]:
        """U3, once enough distinct members of it are seen to have signed exactly our bytes. The
        floor is at least t, so no other U3 finds as many, and all who signed did upload.
        """
        survivors = members_of(state.survivors, self.parameters.clients)
        parties = [signed.party for signed in proof.signatures]
        if parties != sorted(set(parties)) or not survivors.issuperset(parties):
            raise self._fault("signatures that are not of distinct survivors, in order")
        self._require(len(parties), self.parameters.floor, "survivors confirmed")
        what = keys.signed_survivors(state.context, state.survivors)
        self._verify_all(
            Claim(
                f"client {signed.party} on the survivors",
                self._members.member(signed.party).public,
                signed.signature,
                what,
            )
            for signed in proof.signatures
        )
        return survivors

    def _fault(self, reason: str, *, expected: str | None = None) -> ProtocolError:
        """The server broke a rule: this client takes no further part."""
        because = f"; expected {expected}" if expected else ""
        return ProtocolAborted(reason + because, stage=self.state.stage, blame=(SERVER,))

    def _require(self, have: int, need: int, what: str) -> None:
        """A server that keeps to the protocol aborts by itself where too many are missing."""
        if have < need:
            raise self._fault(f"only {have} {what}, fewer than {need}")

    def _signed(self, advert: Keys) -> Keys:
        what = keys.signed_advert(self._context0, advert)
        return replace(advert, signature=self._signer.sign(what))

    def _check_adverts(self, cohort: Cohort) -> None:
        """Every advert is signed by its member."""
        adverts = cohort.neighbours
        signed = keys.signed_adverts(self._context0, adverts)
        self._verify_all(
            Claim(
                f"the advert of client {advert.party}",
                self._members.member(advert.party).public,
                advert.signature,
                what,
            )
            for advert, what in zip(adverts, signed, strict=True)
        )

    def _verify_all(self, claims: Iterable[Claim]) -> None:
        try:
            verify_all(tuple(claims))
        except DecodeError as error:
            raise self._fault(str(error)) from None
