"""What is tried on each message of a published round, and must be refused."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.reference.labels import sha256
from tests.reference.merkle import merkle_path, merkle_root
from tests.reference.wire import FIELDS, Message, pack
from tests.vectors.rounds import flip

Change = Callable[[Message], Message | bytes]
TO_CLIENTS = ("cohort", "inbox", "unmask-request", "survivor-set", "unmask-proof")


class Rebuilt:
    """A cohort with changed neighbours, and a root and a path that are right for them."""

    def __init__(self, to: Callable[[list[Any], list[Any]], list[Any]]) -> None:
        self._to = to

    def __call__(self, m: Message, own: list[Any]) -> Message:
        neighbours = self._to(m.neighbours, own)
        adverts = sorted([*neighbours, own])
        leaves, index = [pack(each) for each in adverts], adverts.index(own)
        fields = m.fields | {
            "neighbours": neighbours,
            "size": len(adverts),
            "index": index,
            "path": merkle_path(leaves, index),
            "root": merkle_root(leaves),
        }
        return Message(m.tag, m.context, **fields)


class Attempt(NamedTuple):
    """`change` on the first message with this tag that client `u` sends or gets."""

    round: str
    tag: str
    u: int
    why: str
    change: Change | Rebuilt
    sender: int | None = None


def put(**changes: Callable[[Any], Any]) -> Change:
    def change(m: Message) -> Message:
        fields = m.fields | {name: to(m.fields[name]) for name, to in changes.items()}
        return Message(m.tag, m.context, **fields)

    return change


def value(what: Any) -> Callable[[Any], Any]:
    return lambda _: what


def same(m: Message) -> Message:
    return m


def other_context(m: Message) -> Message:
    return Message(m.tag, flip(m.context), **m.fields)


def at(index: int, to: Callable[[Any], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """The item at `index` changed."""
    return lambda items: [to(x) if i == index % len(items) else x for i, x in enumerate(items)]


def drop_last(items: Any) -> Any:
    return items[:-1]


def attempts() -> Iterator[Attempt]:
    for name in (
        "gone at upload",
        "active, gone at upload",
        "active, hybrid",
        "degree 4, one gone",
    ):
        yield from _everywhere(name)
        yield from _adverts(name)
        yield from _cohorts(name)
        yield from _shares(name)
        yield from _inboxes(name)
        yield from _uploads(name)
        yield from _answers(name)
    yield from _rebuilt("gone at upload")
    yield from _rebuilt("active, gone at upload")
    yield from _requests("gone at upload")
    yield from _requests("degree 4, one gone")
    yield from _survivors("active, gone at upload")
    yield from _survivors("active, floor above")
    yield from _pieces("in pieces")
    strangers = put(survivors=value(b"\x1f"))
    yield Attempt("active, gone at share", "survivor-set", 3, "who shared nothing", strangers)
    padded = put(packed=lambda raw: raw[:-1] + bytes([raw[-1] | 0x80]))
    yield Attempt("1 bits", "upload", 3, "a padding bit", padded)


def _tags(name: str) -> tuple[str, ...]:
    shared = ("advert", "cohort", "shares", "inbox", "upload", "unmask-answer")
    if name.startswith("active"):
        return (*shared, "survivor-set", "confirmation", "unmask-proof")
    return (*shared, "unmask-request")


def _everywhere(name: str) -> Iterator[Attempt]:
    for tag in _tags(name):
        yield Attempt(name, tag, 3, "cut off", lambda m: m.encoded()[:-1])
        yield Attempt(name, tag, 3, "another context", other_context)
        if tag in TO_CLIENTS:
            yield Attempt(name, tag, 3, "from a client", same, 4)
        other = "upload" if tag == "advert" else "advert"
        if tag in TO_CLIENTS:
            other = "inbox" if tag == "cohort" else "cohort"
        yield Attempt(name, tag, 3, f"{other} here", _another(other))


def _another(tag: str) -> Change:
    """An empty message with that tag and the right context."""
    empty = {"b32": bytes(32), "b16": bytes(16), "bytes": b"", "count": 0, "party": 1}

    def change(m: Message) -> Message:
        fields = {n: [] if isinstance(k, list) else empty[k] for n, k in FIELDS[tag].items()}
        return Message(tag, m.context, **fields)

    return change


def _adverts(name: str) -> Iterator[Attempt]:
    low = (2**255 - 20).to_bytes(32, "little")
    for why, to in (
        ("a short key", drop_last),
        ("a long key", lambda key: key + b"\0"),
        ("a low-order key", lambda key: key[:-32] + low),
        ("zero as a key", lambda key: key[:-32] + bytes(32)),
        ("a key that is not canonical", lambda key: key[:-32] + b"\xff" * 32),
    ):
        yield Attempt(name, "advert", 3, why, put(channel_key=to))
    yield Attempt(name, "advert", 3, "from the server", same, 0)
    yield Attempt(name, "advert", 3, "from nobody of the roster", same, 1000)
    yield Attempt(name, "advert", 3, "from another member", same, 2)
    signature = put(signature=lambda raw: flip(raw) if raw else bytes(64))
    yield Attempt(name, "advert", 3, "another signature", signature)
    if name.startswith("active"):
        yield Attempt(name, "advert", 3, "no signature", put(signature=value(b"")))
        yield Attempt(name, "advert", 3, "another nonce", put(nonce=flip))


def _cohorts(name: str) -> Iterator[Attempt]:
    one: dict[str, Callable[[Any], Any]] = {
        "another graph seed": put(graph_seed=flip),
        "another root": put(root=flip),
        "another index": put(index=lambda i: (i + 1) % 4),
        "an index beyond the end": put(index=value(2**53)),
        "another size": put(size=lambda n: n - 1),
        "a size below the floor": put(size=value(1)),
        "a size above the roster": put(size=value(1000)),
        "a shorter path": put(path=drop_last),
        "a longer path": put(path=lambda path: [*path, sha256(b"x")]),
        "a changed path": put(path=at(0, flip)),
        "no neighbours": put(neighbours=value([])),
        "one neighbour less": put(neighbours=drop_last),
        "neighbours out of order": put(neighbours=lambda all_: all_[::-1]),
        "a neighbour twice": put(neighbours=lambda all_: [all_[0], *all_]),
        "itself as a neighbour": put(neighbours=at(0, lambda k: [3, *k[1:]])),
        "a neighbour beyond the roster": put(neighbours=at(-1, lambda k: [1000, *k[1:]])),
        "a swapped key": put(neighbours=_swapped),
        "a changed key": put(neighbours=at(1, lambda k: [*k[:2], flip(k[2]), k[3]])),
        "a key of low order": put(neighbours=at(1, lambda k: [*k[:2], bytes(len(k[2])), k[3]])),
        "a changed nonce": put(neighbours=at(1, lambda k: [k[0], flip(k[1]), *k[2:]])),
        "a changed signature": put(
            neighbours=at(1, lambda k: [*k[:3], flip(k[3]) if k[3] else b"\1"])
        ),
    }
    # what a client cannot see changes context1, and then no envelope opens
    sparse = {"a changed key", "a changed nonce", "a swapped key", "one neighbour less"}
    unseen = sparse if "degree" in name else {"another graph seed"}
    for why, change in one.items():
        if why not in unseen:
            yield Attempt(name, "cohort", 3, why, change)


def _rebuilt(name: str) -> Iterator[Attempt]:
    """What a server that lies consistently can say on the complete graph."""

    def second(to: Callable[[list[Any], list[Any]], list[Any]]) -> Rebuilt:
        return Rebuilt(lambda all_, own: [all_[0], to(all_[1], own), *all_[2:]])

    for why, change in {
        "rebuilt with our key for another": second(lambda k, own: [*k[:2], own[2], k[3]]),
        "rebuilt with a key of low order": second(lambda k, _: [*k[:2], bytes(32), k[3]]),
        "rebuilt with a key that is too short": second(lambda k, _: [*k[:2], k[2][1:], k[3]]),
        "rebuilt with another nonce": second(lambda k, _: [k[0], flip(k[1]), *k[2:]]),
        "rebuilt with another key": second(lambda k, own: [*k[:2], sha256(k[2]), k[3]]),
        "rebuilt with a long signature": second(lambda k, _: [*k[:3], k[3] + b"\0"]),
        "rebuilt with the signature of another": second(lambda k, own: [*k[:3], own[3] or b"\1"]),
        "rebuilt with two members": Rebuilt(lambda all_, _: all_[:1]),
        "rebuilt with two keys alike": Rebuilt(
            lambda all_, _: [all_[0], [*all_[1][:2], all_[0][2], all_[1][3]], *all_[2:]]
        ),
    }.items():
        if name.startswith("active") or why not in SEALED_ANYWAY:
            yield Attempt(name, "cohort", 3, why, change)


SEALED_ANYWAY = {"rebuilt with another nonce", "rebuilt with another key"}
"""Where nothing is signed a client cannot see it; only context1 is another."""


def _swapped(keys: list[Any]) -> list[Any]:
    (a, *first), (b, *second), *rest = keys
    return [[a, *second], [b, *first], *rest]


def _shares(name: str) -> Iterator[Attempt]:
    for why, change in {
        "one ciphertext less": put(sealed=drop_last),
        "one ciphertext more": put(sealed=lambda all_: [*all_, all_[0]]),
        "a short ciphertext": put(sealed=at(1, drop_last)),
        "a long ciphertext": put(sealed=at(0, lambda raw: raw + b"\0")),
        "a mask fingerprint less": put(mask_fingerprints=lambda raw: raw[16:]),
        "a byte of fingerprints more": put(self_fingerprints=lambda raw: raw + b"\0"),
    }.items():
        yield Attempt(name, "shares", 3, why, change)
    yield Attempt(name, "shares", 3, "from nobody of the cohort", same, 1000)
    yield Attempt(name, "shares", 3, "from the server", same, 0)


def _inboxes(name: str) -> Iterator[Attempt]:
    for why, change in {
        "nothing": put(delivered=value([])),
        "out of order": put(delivered=lambda all_: all_[::-1]),
        "one twice": put(delivered=lambda all_: [all_[0], *all_]),
        "from itself": put(delivered=at(0, lambda one: [3, one[1]])),
        "from a stranger": put(delivered=at(-1, lambda one: [1000, one[1]])),
        "two swapped": put(delivered=_exchanged),
        "a changed ciphertext": put(delivered=at(1, lambda one: [one[0], flip(one[1])])),
        "a changed tag": put(
            delivered=at(0, lambda one: [one[0], one[1][:-1] + flip(one[1][-1:])])
        ),
        "a short ciphertext": put(delivered=at(0, lambda one: [one[0], one[1][:15]])),
        "an empty ciphertext": put(delivered=at(0, lambda one: [one[0], b""])),
    }.items():
        yield Attempt(name, "inbox", 3, why, change)


def _exchanged(delivered: list[Any]) -> list[Any]:
    (a, one), (b, other), *rest = delivered
    return [[a, other], [b, one], *rest]


def _uploads(name: str) -> Iterator[Attempt]:
    for why, change in {
        "the piece after": put(index=lambda i: i + 1),
        "a byte less": put(packed=drop_last),
        "a byte more": put(packed=lambda raw: raw + b"\0"),
        "no links": put(links=lambda raw: b"" if raw else bytes(32)),
        "a link more": put(links=lambda raw: raw + bytes(32)),
        "half a link more": put(links=lambda raw: raw + bytes(16)),
    }.items():
        yield Attempt(name, "upload", 3, why, change)
    yield Attempt(name, "upload", 3, "from nobody of U2", same, 1000)


def _answers(name: str) -> Iterator[Attempt]:
    limb = b"\xff\xff\xff\x7f"
    for why, change in {
        "a share less": put(self_shares=lambda raw: raw[36:]),
        "a share more": put(self_shares=lambda raw: raw + bytes(36)),
        "no share of who is gone": put(mask_shares=lambda raw: b"" if raw else bytes(36)),
        "a share of each of all": put(mask_shares=lambda raw: raw + bytes(36)),
        "a limb that is the prime": put(self_shares=lambda raw: limb + raw[4:]),
    }.items():
        yield Attempt(name, "unmask-answer", 3, why, change)
    yield Attempt(name, "unmask-answer", 3, "from who was not asked", same, 1000)


def _requests(name: str) -> Iterator[Attempt]:
    for why, change in {
        "without us": put(survivors=lambda all_: [v for v in all_ if v != 3]),
        "only us": put(survivors=value([3])),
        "out of order": put(survivors=lambda all_: all_[::-1]),
        "one twice": put(survivors=lambda all_: [*all_, all_[-1]]),
        "a stranger": put(survivors=lambda all_: [*all_, 1000]),
        "fewer uploads than survivors": put(uploads=lambda n: n - 6),
        "no uploads": put(uploads=value(0)),
        "more uploads than clients": put(uploads=value(1000)),
    }.items():
        if "below 0" not in why and not (why.startswith("fewer") and "degree" not in name):
            yield Attempt(name, "unmask-request", 3, why, change)


def _survivors(name: str) -> Iterator[Attempt]:
    for why, change in {
        "nobody": put(survivors=value(b"\0")),
        "without us": put(survivors=value(b"\x1b")),
        "who is gone": put(survivors=value(b"\xff")),
        "beyond the roster": put(survivors=lambda raw: bytes([raw[0] | 0x80])),
        "a byte more": put(survivors=lambda raw: raw + b"\0"),
        "empty": put(survivors=value(b"")),
        "too few": put(survivors=value(b"\x06")),
    }.items():
        yield Attempt(name, "survivor-set", 3, why, change)
    for why, change in {
        "none": put(signatures=value([])),
        "one less": put(signatures=drop_last),
        "out of order": put(signatures=lambda all_: all_[::-1]),
        "one twice": put(signatures=lambda all_: [all_[0], *all_]),
        "a stranger": put(signatures=lambda all_: [*all_[:-1], [1000, all_[-1][1]]]),
        "a changed one": put(signatures=at(0, lambda one: [one[0], flip(one[1])])),
        "two swapped": put(signatures=_exchanged),
        "a short one": put(signatures=at(1, lambda one: [one[0], one[1][:-1]])),
    }.items():
        yield Attempt(name, "unmask-proof", 3, why, change)
    yield Attempt(name, "confirmation", 3, "changed", put(signature=flip))
    yield Attempt(name, "confirmation", 3, "empty", put(signature=value(b"")))
    yield Attempt(name, "confirmation", 3, "of another member", same, 4)
    yield Attempt(name, "confirmation", 3, "from nobody of U3", same, 1000)


def _pieces(name: str) -> Iterator[Attempt]:
    for why, change in {
        "the last piece first": put(index=value(3)),
        "links too early": put(links=value(bytes(32))),
    }.items():
        yield Attempt(name, "upload", 1, why, change)
