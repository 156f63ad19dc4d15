"""What crosses the wire in `masking`, in the order of the stages.

Where a message has one item for each neighbour, the order is that of their numbers.
"""

from typing import Annotated

import msgspec

from protocols.base import Message
from secagg.codec import Bytes16, Bytes32, Count, PartyId, Value
from secagg.shamir import SHARE_BYTES

FINGERPRINT_BYTES = 16

Share = Annotated[bytes, msgspec.Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]


class Keys(Value, frozen=True):
    """A client's advert as it is published: a leaf of the Merkle tree over U1.

    signature: by the member's identity in active mode, empty otherwise.
    """

    party: PartyId
    nonce: Bytes32
    channel_key: bytes
    signature: bytes


class Advert(Message, frozen=True, tag="advert"):
    """Stage 0, client to server: a fresh public key, bound to `context0`."""

    nonce: Bytes32
    channel_key: bytes
    signature: bytes


class Cohort(Message, frozen=True, tag="cohort"):
    """Stage 0, server to client: U1 and the graph, as far as this client needs them.

    index and path: where the client's own advert stands in the tree with `size` leaves under
    `root`.
    """

    size: Count
    graph_seed: Bytes32
    root: Bytes32
    index: Count
    path: tuple[Bytes32, ...]
    neighbours: tuple[Keys, ...]


class Shares(Message, frozen=True, tag="shares"):
    """Stage 1, client to server: what it has for each of its neighbours in U1.

    mask_commitment, self_commitment: of m_u and b_u; own_fingerprint: of the share of b_u that
    it keeps; mask_fingerprints, self_fingerprints: 16 bytes a neighbour, one after the other;
    sealed: a ciphertext a neighbour.
    """

    mask_commitment: Bytes32
    self_commitment: Bytes32
    own_fingerprint: Bytes16
    mask_fingerprints: bytes
    self_fingerprints: bytes
    sealed: tuple[bytes, ...]


class Delivered(Value, frozen=True):
    """What one neighbour has for the recipient."""

    sender: PartyId
    sealed: bytes


class Inbox(Message, frozen=True, tag="inbox"):
    """Stage 1, server to client: from every neighbour in U2."""

    delivered: tuple[Delivered, ...]


class Upload(Message, frozen=True, tag="upload"):
    """Stage 2, client to server: a piece of the masked vector, k bits a coordinate.

    The pieces are sent in order, numbered by `index`; only the last may be shorter, and only
    the last has `links`: 32 bytes for each neighbour in U2 with a higher number.
    """

    index: Count
    packed: bytes
    links: bytes


class SurvivorSet(Message, frozen=True, tag="survivor-set"):
    """Stage 3, server to client, active mode: U3. Bit v - 1, from the lowest bit of the first
    byte, is client v; ceil(n/8) bytes.
    """

    survivors: bytes


class Confirmation(Message, frozen=True, tag="confirmation"):
    """Stage 3, client to server, active mode: this client's signature over U3."""

    signature: bytes


class Signed(Value, frozen=True):
    """One member's signature over U3."""

    party: PartyId
    signature: bytes


class UnmaskRequest(Message, frozen=True, tag="unmask-request"):
    """Stage 4, server to client: who among its neighbours and itself is in U3.

    Only survivors are listed: whoever shared and is not among them has dropped, so no
    request can name anyone as both. `uploads` is the size of U3.
    """

    survivors: tuple[PartyId, ...]
    uploads: Count


class UnmaskProof(Message, frozen=True, tag="unmask-proof"):
    """Stage 4, server to client, active mode: `floor` signatures over U3, in order of
    party, and nothing that a client could be asked for beside them.
    """

    signatures: tuple[Signed, ...]


class UnmaskAnswer(Message, frozen=True, tag="unmask-answer"):
    """Stage 4, client to server: exactly one share of each neighbour that shared.

    self_shares: of b_v, for its neighbours in U3 and itself; mask_shares: of m_v, for its
    other neighbours in U2; 36 bytes each, in order of v.
    """

    self_shares: bytes
    mask_shares: bytes
