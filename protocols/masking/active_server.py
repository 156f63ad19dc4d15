"""The server in active mode: it asks for nothing that the members have not confirmed."""

from msgspec.structs import replace

from protocols.base import Aborted, RoundClosed, Session, Step, on, receives
from protocols.masking import keys
from protocols.masking.bitmap import bitmap_of
from protocols.masking.messages import (
    Advert,
    Confirmation,
    Keys,
    Shares,
    Signed,
    SurvivorSet,
    UnmaskAnswer,
    UnmaskProof,
    Upload,
)
from protocols.masking.server import BaseServer
from protocols.masking.server_state import (
    Advertising,
    Collecting,
    Confirming,
    Finished,
    Prepared,
    Sharing,
    Unmasking,
)
from secagg.errors import DecodeError, LocalError
from secagg.identity import Roster
from secagg.rng import RandomSource
from secagg.signing import prepare


class ActiveServer(BaseServer):
    """The server of a session whose clients trust each other's signatures, and not it."""

    role = "active masking server"
    receivable = Advert | Shares | Upload | Confirmation | UnmaskAnswer
    states = (
        Advertising | Sharing | Prepared | Collecting | Confirming | Unmasking | Finished | Aborted
    )

    def __init__(self, session: Session, source: RandomSource) -> None:
        super().__init__(session, source)
        if session.members is None:
            raise LocalError("active mode needs the roster of identity keys in the session")
        self._members: Roster = session.members
        prepare(member.public for member in self._members.members)  # once for all its rounds

    @on(Collecting, RoundClosed)
    def fix_survivors(self, state: Collecting, _event: RoundClosed) -> Step[Confirming]:
        """Fix U3 and ask its members to sign it."""
        near = self._survivors(state)
        survivors = bitmap_of(near, self.parameters.clients)
        requests = ((u, SurvivorSet(state.bound, survivors)) for u in near)
        return Step(Confirming(*state.carried, {}), requests)

    @receives(Confirming, Confirmation)
    def take_confirmation(
        self, state: Confirming, confirmation: Confirmation, sender: int
    ) -> Step[Confirming]:
        """Stage 3: take a survivor's signature over U3."""
        if sender not in state.links:
            raise self.refuse(sender, "did not upload")
        if sender in state.confirmations:
            raise self.refuse(sender, "confirmed twice")
        survivors = bitmap_of(state.links, self.parameters.clients)
        what = keys.signed_survivors(state.bound, survivors)
        try:
            self._members.member(sender).public.verify(confirmation.signature, what)
        except DecodeError as error:
            raise self.refuse(sender, str(error)) from None
        confirmations = {**state.confirmations, sender: confirmation.signature}
        return Step(replace(state, confirmations=confirmations))

    @on(Confirming, RoundClosed)
    def fix_confirmed(self, state: Confirming, _event: RoundClosed) -> Step[Unmasking]:
        """Show those who confirmed that enough did, which is what they answer to."""
        need = self.parameters.floor
        self._require(state.confirmations, need, "confirmed the survivors")
        first = sorted(state.confirmations.items())[:need]
        proof = UnmaskProof(state.bound, tuple(Signed(v, raw) for v, raw in first))
        asked = frozenset(state.confirmations)
        return Step(Unmasking(*state.carried, asked, {}), ((u, proof) for u in sorted(asked)))

    def _check_advert(self, advert: Keys) -> None:
        what = keys.signed_advert(self._context0, advert)
        self._members.member(advert.party).public.verify(advert.signature, what)
