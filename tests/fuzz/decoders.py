"""Targets: everything that turns bytes of others into values."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from random import Random
from typing import Any

import numpy as np

from protocols import masking
from protocols.masking.bitmap import bitmap_of, members_of
from secagg import packing, shamir
from secagg.codec import decode, encode
from secagg.errors import LocalError
from secagg.identity import (
    Card,
    Identity,
    PublicIdentity,
    card_from_json,
    card_to_json,
    roster_from_json,
    roster_to_json,
)
from secagg.kdf import label
from secagg.merkle import proof, root, verify
from secagg.prg import StreamKey
from secagg.seal import SUITES, SystemSealer, open_between, seal_between
from tests.fuzz.mutate import changed_bytes, changed_message, must
from tests.fuzz.sessions import Recorded, recorded
from tests.protocols.active_support import identity, roster_of

Target = Callable[[Random], None]


def codec(union: Any, session: Callable[[], Recorded]) -> Target:
    """What decodes encodes to the very same bytes."""

    def run(rng: Random) -> None:
        data = changed_message(rng, rng.choice(session().corpus))
        assert encode(decode(data, union)) == data

    return run


def roster_json(rng: Random) -> None:
    """A roster that is read is one that can be written, and read again."""
    data = roster_to_json(roster_of(3, rng.choice(("Ed25519", "ML-DSA-65"))))
    found = roster_from_json(changed_bytes(rng, data))
    assert roster_from_json(roster_to_json(found)) == found


@cache
def _card() -> bytes:
    return card_to_json(Card.signed("a member", identity(1), "2030-01-31"))


def card_json(rng: Random) -> None:
    """A card that is read and differs in anything is not signed."""
    found = card_from_json(changed_bytes(rng, _card()))
    assert card_to_json(found) == _card()


@cache
def _pem(scheme: str) -> bytes:
    return identity(1, scheme).to_pem()


def private_key_file(rng: Random) -> None:
    """A damaged key file is another key, or none."""
    found = Identity.from_pem(changed_bytes(rng, _pem(rng.choice(("Ed25519", "ML-DSA-65")))))
    message = label("card", b"")
    found.public.verify(found.sign(message), message)


def public_identity(rng: Random) -> None:
    """A key that is taken verifies nothing that it did not sign."""
    scheme = rng.choice(("Ed25519", "ML-DSA-65"))
    key = changed_bytes(rng, identity(1, scheme).public.raw)
    size = identity(1, scheme).public.signature_bytes
    signature = rng.choice((bytes(size), rng.randbytes(size), rng.randbytes(32) + bytes(32)))
    PublicIdentity(scheme, key).verify(signature, b"m")
    raise AssertionError("a signature that nobody made verifies")


@cache
def _signature(scheme: str) -> bytes:
    return identity(1, scheme).sign(b"a message")


def signature(rng: Random) -> None:
    """One message has the signature that was made, and no other."""
    scheme = rng.choice(("Ed25519", "ML-DSA-65"))
    other = changed_bytes(rng, _signature(scheme))
    identity(1, scheme).public.verify(other, b"a message")
    assert other == _signature(scheme)


def channel_key(name: str) -> Target:
    """A key that is taken can be sealed to and agreed with."""
    suite = SUITES[name]
    own = suite.key_pair(bytes(range(suite.seed_bytes)))

    def run(rng: Random) -> None:
        key = suite.public_key(changed_bytes(rng, own.public.raw))
        assert key.raw != b""
        agreed = own.agree(key)
        assert len(agreed) == 32
        seal_between(agreed, key, b"p", b"i", SystemSealer())

    return run


def sealed(name: str) -> Target:
    """Nothing but what was sealed opens."""
    suite = SUITES[name]
    own = suite.key_pair(bytes(range(suite.seed_bytes)))
    other = suite.key_pair(bytes(suite.seed_bytes - 1) + b"1")
    agreed = own.agree(other.public)
    honest = seal_between(agreed, own.public, bytes(104), b"info", SystemSealer())

    def run(rng: Random) -> None:
        data = changed_bytes(rng, honest)
        assert open_between(agreed, own, data, b"info") == bytes(104)
        assert data == honest

    return run


def sealed_by_hpke(name: str) -> Target:
    """The same of what needs no key of the sender."""
    suite = SUITES[name]
    own = suite.key_pair(bytes(range(suite.seed_bytes)))
    honest = own.public.seal(bytes(104), b"info")

    def run(rng: Random) -> None:
        data = changed_bytes(rng, honest)
        assert own.open(data, b"info") == bytes(104)
        assert data == honest

    return run


_COINS = StreamKey(bytes(16), bytes(12))
_SECRET = bytes(range(100, 132))


def shamir_shares(rng: Random) -> None:
    """Shares give 32 bytes or a DecodeError; the dealt ones give the secret."""
    points = rng.sample(range(1, 2**31 - 1), 3)
    dealt = [s[0] for s in shamir.deal([_SECRET], points, 3, _COINS)]
    at = rng.randrange(3)
    lie = [*dealt[:at], changed_bytes(rng, dealt[at]), *dealt[at + 1 :]]
    (found,) = shamir.reconstruct(points, [lie])
    assert len(found) == 32
    assert (found == _SECRET) == (lie == dealt)


def shares_in_a_row(rng: Random) -> None:
    """A row that passes has shares that parse."""
    count = rng.randrange(4)
    row = changed_bytes(rng, b"".join(rng.randbytes(3) + b"\x11" for _ in range(9 * count)))
    shamir.check_shares(row, count)
    for at in range(count):
        shamir.parse_share(row[36 * at : 36 * at + 36])


def packed_vector(rng: Random) -> None:
    """What unpacks is what packs to the same bytes; adding it adds exactly that."""
    bits, length = rng.randrange(1, 65), rng.randrange(20)
    kind = np.uint32 if bits <= 32 else np.uint64
    values = np.array([rng.getrandbits(bits) for _ in range(length)], kind)
    data = packing.pack(values, bits)
    if rng.random() < 0.8:
        data = changed_bytes(rng, data)
    found = packing.unpack(data, bits, length)
    assert packing.pack(found, bits) == data
    total = values.copy()
    packing.add_packed(total, data, bits)
    assert np.array_equal(total, values + found)


def bitmap(rng: Random) -> None:
    """Sets and bits are the same thing."""
    clients = rng.randrange(1, 40)
    members = [v for v in range(1, clients + 1) if rng.random() < 0.5]
    data = changed_bytes(rng, bitmap_of(members, clients))
    assert bitmap_of(members_of(data, clients), clients) == data


def merkle(rng: Random) -> None:
    """Only the leaf stands in its place, on its path, under its root."""
    leaves = [bytes([at]) * 40 for at in range(rng.randrange(1, 12))]
    at = rng.randrange(len(leaves))
    honest = (root(leaves), leaves[at], at, len(leaves), proof(leaves, at))
    lie: list[Any] = list(honest)
    match rng.randrange(5):
        case 0 | 1 as which:
            lie[which] = changed_bytes(rng, lie[which])
        case 2 | 3 as which:
            lie[which] = rng.choice((0, 1, 2, 5, 2**53, at + 1, at + 2))
        case _:
            lie[4] = tuple(changed_bytes(rng, each) for each in lie[4])
    assert verify(*lie) == (tuple(lie) == honest)


def stored_state(active: bool, role: str) -> Target:
    """A damaged state is a LocalError, and the machine stays as it was."""

    def run(rng: Random) -> None:
        held = recorded(active).held.values()
        chosen = rng.choice([h for h in held if (h.machine.me == 0) == (role == "server")])
        machine = chosen.machine
        machine.restore(chosen.snapshot)
        before = machine.state
        try:
            machine.restore(changed_message(rng, chosen.snapshot))
        except LocalError:
            must(machine.state is before)
            raise
        finally:
            machine.restore(chosen.snapshot)

    return run


_SEMI_HONEST, _ACTIVE = partial(recorded, False), partial(recorded, True)

TARGETS: Mapping[str, Target] = {
    "codec, semi-honest to server": codec(masking.Server.receivable, _SEMI_HONEST),
    "codec, semi-honest to client": codec(masking.Client.receivable, _SEMI_HONEST),
    "codec, active to server": codec(masking.ActiveServer.receivable, _ACTIVE),
    "codec, active to client": codec(masking.ActiveClient.receivable, _ACTIVE),
    "roster file": roster_json,
    "card file": card_json,
    "private key file": private_key_file,
    "identity key": public_identity,
    "signature": signature,
    "channel key, X25519": channel_key("X25519"),
    "channel key, hybrid": channel_key("MLKEM768-X25519"),
    "ciphertext, X25519": sealed("X25519"),
    "ciphertext, hybrid": sealed("MLKEM768-X25519"),
    "ciphertext, HPKE": sealed_by_hpke("MLKEM768-X25519"),
    "Shamir shares": shamir_shares,
    "shares in a row": shares_in_a_row,
    "packed vector": packed_vector,
    "bitmap": bitmap,
    "Merkle proof": merkle,
    "stored state, client": stored_state(active=False, role="client"),
    "stored state, server": stored_state(active=False, role="server"),
    "stored state, active client": stored_state(active=True, role="client"),
    "stored state, active server": stored_state(active=True, role="server"),
}
