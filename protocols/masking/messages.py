"""What crosses the wire in `masking`, in the order of the stages."""

from typing import Annotated

import msgspec

from protocols.base import Message
from secagg.codec import Bytes16, Bytes32, Count, PartyId, Value
from secagg.shamir import SHARE_BYTES

Share = Annotated[bytes, msgspec.Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]


class Keys(Value, frozen=True):
    """A client's advert as it is published: a leaf of the Merkle tree over U1."""

    party: PartyId
    nonce: Bytes32
    channel_key: bytes
    mask_key: bytes


class Advert(Message, frozen=True, tag="advert"):
    """Stage 0, client to server: fresh public keys, bound to `context0`."""

    nonce: Bytes32
    channel_key: bytes
    mask_key: bytes


class Cohort(Message, frozen=True, tag="cohort"):
    """Stage 0, server to client: U1 and the graph, as far as this client needs them.

    application: a hint that names a mismatch; the sealed context decides. index and path:
    where the client's own advert stands in the tree with `size` leaves under `root`.
    """

    application: Bytes32
    size: Count
    graph_seed: Bytes32
    root: Bytes32
    index: Count
    path: tuple[Bytes32, ...]
    neighbours: tuple[Keys, ...]


class Posted(Value, frozen=True):
    """What a client has for one neighbour: two ciphertexts, and fingerprints of the shares."""

    to: PartyId
    contribution: bytes
    shares: bytes
    mask_fingerprint: Bytes16
    self_fingerprint: Bytes16


class Shares(Message, frozen=True, tag="shares"):
    """Stage 1, client to server. `own_fingerprint` is that of the self-mask share it keeps."""

    commitment: Bytes32
    own_fingerprint: Bytes16
    posted: tuple[Posted, ...]


class Delivered(Value, frozen=True):
    """What one neighbour has for the recipient."""

    sender: PartyId
    contribution: bytes
    shares: bytes


class Inbox(Message, frozen=True, tag="inbox"):
    """Stage 1, server to client: from every neighbour in U2."""

    delivered: tuple[Delivered, ...]


class Upload(Message, frozen=True, tag="upload"):
    """Stage 2, client to server: a piece of the masked vector, k bits a coordinate.

    The pieces are sent in order, numbered by `index`; only the last may be shorter.
    """

    index: Count
    packed: bytes


class UnmaskRequest(Message, frozen=True, tag="unmask-request"):
    """Stage 4, server to client: who among its neighbours and itself is in U3.

    Only survivors are listed: whoever shared and is not among them has dropped, so no
    request can name anyone as both. `uploads` is the size of U3.
    """

    survivors: tuple[PartyId, ...]
    uploads: Count


class SelfShare(Value, frozen=True):
    """The share of a survivor's self-mask seed."""

    of: PartyId
    share: Share


class MaskShare(Value, frozen=True):
    """The share of a dropped client's mask seed, and what the holder contributed to the
    pair seed with that client, which saves the server opening a ciphertext.
    """

    of: PartyId
    share: Share
    contribution: Bytes32


class UnmaskAnswer(Message, frozen=True, tag="unmask-answer"):
    """Stage 4, client to server: exactly one kind of share of each neighbour that shared."""

    survivors: tuple[SelfShare, ...]
    dropped: tuple[MaskShare, ...]
