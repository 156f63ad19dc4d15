"""A tiny ring, all of it: what the server sees depends on the inputs through their sum only.

Three clients with one value of k bits each. The mask streams of the real machines are replaced
by values that are counted through: every client's upload is made by its machine for every
input and every value of its masks. So the server's view (all uploads, late ones too, and every
mask that it can take off) has an exact distribution for every input, and two inputs are told
apart by it if and only if their sums over the survivors differ.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest

from protocols import masking
from protocols.base import Contribute, Machine
from secagg import packing, prg
from secagg.codec import decode
from secagg.prg import StreamKey
from tests.protocols.active_support import Round, active

CLIENTS = (1, 2, 3)
MISSING = ("does not share", "shares only", "uploads late")
PATTERNS: list[dict[int, str]] = [{}, *({u: how} for u in CLIENTS for how in MISSING)]
Name = tuple[int, ...]
"""Of a mask: (u,) of a self mask, (u, v) of a pair's, u < v."""


@dataclass
class Masks:
    """Stands for the generator: a stream is a value at coordinate 0, and zero elsewhere."""

    value: dict[StreamKey, int] = field(default_factory=dict)
    used: list[StreamKey] = field(default_factory=list)

    def add(self, acc: Any, streams: Any, signs: Any, *, start: int = 0) -> None:
        assert start == 0
        self.used = list(streams)
        total = sum(int(s) * self.value.get(key, 0) for key, s in zip(streams, signs, strict=True))
        acc[0] = (int(acc[0]) + total) % 2 ** (8 * acc.itemsize)


@dataclass
class Sender:
    """A client before its upload, and the masks that the upload has."""

    machine: Machine
    ready: bytes
    masks: dict[Name, StreamKey]


@dataclass
class Played:
    """A dropout pattern, played to its end: U3, who uploaded, and the masks that are known."""

    survivors: tuple[int, ...]
    senders: dict[int, Sender]
    known: tuple[Name, ...]


def play(bits: int, is_active: bool, missing: Mapping[int, str], masks: Masks) -> Played:
    played = Round(_parameters(bits, is_active))
    silent = [u for u, how in missing.items() if how == "does not share"]
    inboxes = played.inboxes(played.cohorts(), without=silent)
    senders = {}
    for u, inbox in inboxes.items():
        played.tell(u, inbox)
        if missing.get(u) != "shares only":
            machine = played.machine(u)
            peers = [peer.party for peer in machine.state.peers]
            ready = machine.snapshot()
            sent = machine.handle(Contribute(played.inputs[u]))
            names: list[Name] = [(u,), *((min(u, v), max(u, v)) for v in peers)]
            senders[u] = Sender(machine, ready, dict(zip(names, masks.used, strict=True)))
            played.hear(sent if u not in missing else ())
    told = played.close()
    played.finish(played.proofs(told) if is_active else told)
    survivors = tuple(u for u in inboxes if u not in missing)
    gone = [u for u in inboxes if u in missing]
    known = {(u,) for u in survivors} | {
        name for s in senders.values() for name in s.masks if len(name) > 1 and set(name) & {*gone}
    }
    by_stream = {key: name for s in senders.values() for name, key in s.masks.items()}
    assert {by_stream[key] for key in masks.used} <= known, "what the server took off"
    return Played(survivors, senders, tuple(sorted(known)))


def _parameters(bits: int, is_active: bool) -> Any:
    if is_active:
        return active(3, 1, bits, corrupt=0)
    return masking.configure(3, 1, bits, threshold=2, floor=2, suite="X25519")


def table(sender: Sender, names: Sequence[Name], bits: int, masks: Masks) -> np.ndarray:
    """What the machine uploads, by input and by the values of all `names`, its own or not."""
    own = list(sender.masks)
    made = np.zeros((2**bits,) * (1 + len(own)), np.int64)
    for at in product(range(2**bits), repeat=1 + len(own)):
        masks.value = dict(zip(sender.masks.values(), at[1:], strict=True))
        made[at] = _uploaded(sender, at[0], bits)
    order = sorted(range(len(own)), key=lambda i: names.index(own[i]))
    made = made.transpose(0, *(i + 1 for i in order))
    return made.reshape(2**bits, *(2**bits if name in own else 1 for name in names))


def _uploaded(sender: Sender, value: int, bits: int) -> int:
    sender.machine.restore(sender.ready)
    (sent,) = sender.machine.handle(Contribute(np.array([value], np.uint32)))
    body = decode(sent.data, masking.Server.receivable | masking.ActiveServer.receivable)
    length = sender.machine.session.parameters.masked_length
    return int(packing.unpack(body.packed, bits, length)[0])


def views(
    played: Played, bits: int, masks: Masks, known: Sequence[Name]
) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """For each input, by client in order, the exact distribution of the server's view."""
    names = sorted({name for s in played.senders.values() for name in s.masks})
    shape = (2**bits,) * len(names)
    tables = {u: table(s, names, bits, masks) for u, s in played.senders.items()}
    values = np.indices(shape)
    extra = [values[names.index(name)] for name in known]
    for inputs in product(range(2**bits), repeat=len(tables)):
        seen = [np.broadcast_to(tables[u][x], shape) for u, x in zip(tables, inputs, strict=True)]
        code = np.zeros(shape, np.int64)
        for each in (*seen, *extra):
            code = code << bits | each
        yield inputs, np.sort(code, axis=None).tobytes()


@pytest.mark.parametrize("is_active", [False, True], ids=["semi-honest", "active"])
@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("missing", PATTERNS, ids=str)
def test_two_inputs_look_the_same_if_and_only_if_their_sums_are(
    missing: Mapping[int, str], bits: int, is_active: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = Masks()
    monkeypatch.setattr(prg, "add_masks", masks.add)
    played = play(bits, is_active, missing, masks)
    assert len(played.survivors) == 3 - len(missing)
    by_view: dict[bytes, set[int]] = {}
    by_sum: dict[int, set[bytes]] = {}
    for inputs, view in views(played, bits, masks, played.known):
        each = dict(zip(played.senders, inputs, strict=True))
        total = sum(each[u] for u in played.survivors) % 2**bits
        by_view.setdefault(view, set()).add(total)
        by_sum.setdefault(total, set()).add(view)
    assert len(by_sum) == 2**bits
    assert all(len(of) == 1 for of in by_sum.values()), "the view depends on the sum only"
    assert all(len(of) == 1 for of in by_view.values()), "and shows it"


@pytest.mark.parametrize("more", [(1, 2), (1, 3), (2, 3)])
def test_one_more_mask_of_a_survivor_would_show_more(
    more: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server had both shares of a survivor, or one pair's mask beside, it sees more."""
    masks = Masks()
    monkeypatch.setattr(prg, "add_masks", masks.add)
    played = play(1, True, {}, masks)
    others = [name for name in ((1, 2), (1, 3), (2, 3)) if set(name) & {more[0]}]
    seen: dict[int, set[bytes]] = {}
    for inputs, view in views(played, 1, masks, [*played.known, *others]):
        seen.setdefault(sum(inputs) % 2, set()).add(view)
    assert all(len(of) > 1 for of in seen.values())


def test_a_late_upload_with_its_self_mask_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The both-share attack on a dropout: its pair masks are known, so its own must not be."""
    masks = Masks()
    monkeypatch.setattr(prg, "add_masks", masks.add)
    played = play(1, True, {2: "uploads late"}, masks)
    seen: dict[int, set[bytes]] = {}
    for inputs, view in views(played, 1, masks, [*played.known, (2,)]):
        seen.setdefault((inputs[0] + inputs[2]) % 2, set()).add(view)
    assert all(len(of) == 2 for of in seen.values())
