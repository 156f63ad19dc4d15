"""A server that lies to whoever opens the sum: the decryptors of `committee`, a key holder.

The counterparts of what `lying` asks clients for their shares. *Alone*: have one client's
ciphertext opened as if it were the sum. *Twice*: have two sums opened that differ by one
client, by different parties and by the same ones, before and after a restart.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from benchmarks.security import lying
from benchmarks.security.lying import BITS, LENGTH, VICTIM, Attempt, Lie
from benchmarks.security.targets import Target, Words
from protocols.base import Parameters
from protocols.committee.messages import Answer, OpenRequest
from protocols.committee.messages import Upload as Shared
from protocols.he import keys as he_keys
from protocols.he.messages import Aggregate, Batch, Opened
from protocols.he.messages import Upload as Sealed
from secagg import vshare
from secagg.codec import decode
from secagg.errors import DecodeError
from secagg.gaussian import BOUND
from secagg.packing import unpack
from secagg.rng import SystemSource
from secagg.seal import suite

CLIENTS = 6
Answers = dict[frozenset[int], dict[int, bytes]]
"""What each decryptor answered, by the set that it was told."""


# --- committee ---------------------------------------------------------------------------


def _ask(lie: Lie, told: Iterable[tuple[int, frozenset[int]]], answers: Answers) -> None:
    for v, survivors in told:
        request = OpenRequest(lie.context, tuple(sorted(survivors)))
        answer = lie.tell(v, request, Answer)
        if answer is not None:
            answers.setdefault(survivors, {})[v] = answer.total


def _key_sum(lie: Lie, answers: Mapping[int, bytes], count: int) -> Any:
    """The sum of short keys that these answers give. DecodeError with fewer than t."""
    parameters: Any = lie.parameters
    need, degree = parameters.threshold, parameters.plan.ring.degree
    if len(answers) < need:
        raise DecodeError(f"{len(answers)} answers for one of the sets, and {need} are needed")
    for keys, _wrong in vshare.candidates(answers, need, degree, count * BOUND):
        return keys
    raise DecodeError("answers that give no short key")


def committee_alone(lie: Lie) -> Words | None:
    """Ask every decryptor for the victim alone, and after a restart once more."""
    alone, answers = frozenset({VICTIM}), Answers()
    committee = list(_committee(lie))
    _ask(lie, [(v, alone) for v in committee], answers)
    for v in committee:
        lie.restart(v)
    _ask(lie, [(v, alone) for v in committee], answers)
    return _opened(lie, lambda: _key_sum(lie, answers.get(alone, {}), 1))


def committee_twice(lie: Lie) -> Words | None:
    """Ask half of the decryptors for all clients and half for all but the victim; then each
    for the other set, at once and after a restart.
    """
    everyone = frozenset(lie.everyone)
    sets, answers = (everyone, everyone - {VICTIM}), Answers()
    committee = list(_committee(lie))
    first = [(v, sets[at % 2]) for at, v in enumerate(committee)]
    second = [(v, sets[1 - at % 2]) for at, v in enumerate(committee)]
    _ask(lie, [*first, *second], answers)
    for v in committee:
        lie.restart(v)
    _ask(lie, second, answers)

    def difference() -> Any:
        whole, rest = (_key_sum(lie, answers.get(each, {}), len(each)) for each in sets)
        return whole - rest

    return _opened(lie, difference)


def _opened(lie: Lie, key: Any) -> Words | None:
    try:
        return lie.opened(lie.uploads(Shared), key())
    except DecodeError as error:
        lie.attempt.refused(error)
        return None


def _committee(lie: Lie) -> Collection[int]:
    parameters: Any = lie.parameters
    committee: range = parameters.committee
    return committee


# --- ckks and bfv ------------------------------------------------------------------------


def ciphertexts(lie: Lie) -> list[tuple[bytes, ...]]:
    """The victim's, a tuple for each piece: uploads are sealed for the server itself."""
    parameters: Any = lie.parameters
    context0 = lie.simulation.session.context
    pair = he_keys.sealing_keys(suite(parameters.suite), lie.before.seed, context0)
    opened = []
    for upload in lie.uploads(Sealed):
        info = he_keys.sealing_info(upload.context, VICTIM, upload.index)
        opened.append(decode(pair.open(upload.sealed, info), Batch).ciphertexts)
    return opened


def _padded(lie: Lie) -> list[tuple[bytes, ...]]:
    """The victim's ciphertexts with encryptions of zero added for all that the count names:
    the server has the public key. What the key holder sees is a sum over that many.
    """
    parameters: Any = lie.parameters
    machine: Any = lie.simulation.server.machine
    padded = []
    for where, mine in zip(parameters.pieces, ciphertexts(lie), strict=True):
        total = mine
        zeros = parameters.spread(np.zeros(where.stop - where.start, np.uint64))
        for _ in range(parameters.floor - 1):
            coins = he_keys.coins(SystemSource().seed(), lie.context)
            empty = machine._engine.encrypt(lie.before.key, zeros, coins)
            total = machine._engine.add(total, empty)
        padded.append(total)
    return padded


def _open(lie: Lie, pieces: Iterable[tuple[bytes, ...]], count: int) -> Words | None:
    """What the key holder says that these are the sum of."""
    parameters: Any = lie.parameters
    answer = None
    for index, piece in enumerate(pieces):
        request = Aggregate(lie.context, index, count, piece)
        answer = lie.tell(parameters.holder, request, Opened)
    if answer is None:
        return None
    values = unpack(answer.packed, parameters.modulus_bits, parameters.length)
    return np.asarray(values, np.uint64)


def holder_alone(lie: Lie) -> Words | None:
    """Hand the key holder one client's ciphertexts as a sum over as many as the floor asks."""
    return _open(lie, _padded(lie), lie.parameters.floor)


def holder_twice(lie: Lie) -> Words | None:
    """Have the sum opened, and then, at once and after a restart, the victim's part of it:
    one opening more than the session's own gives one client away.
    """
    parameters: Any = lie.parameters
    lie.simulation.step("open")
    for restarted in (False, True):
        if restarted:
            lie.restart(parameters.holder)
        found = _open(lie, _padded(lie), parameters.floor)
        if found is not None:
            return found
    return None


# --- all protocols -----------------------------------------------------------------------

_ALONE = {"committee": committee_alone, "ckks": holder_alone, "bfv": holder_alone}
_TWICE = {"committee": committee_twice, "ckks": holder_twice, "bfv": holder_twice}
_SAYS = {
    "ckks": "the key holder sees a ciphertext and a number, and opens it",
    "bfv": "the key holder sees a ciphertext and a number, and opens it",
}
_PLAYED = "; a sum filled up with clients that the server plays is opened: see swapped keys"


def _lie(target: Target, number: int, parameters: Parameters | None) -> Lie:
    return Lie(target, parameters or target.parameters(CLIENTS, LENGTH, BITS), number)


def _told() -> Attempt:
    return Attempt(worked=True, refusal="there is nothing to ask for: it has every update")


def both_shares(target: Target, number: int, parameters: Parameters | None = None) -> Attempt:
    """Whether the server gets what opens one client alone."""
    if target.family == "plain":  # the server has been told already
        return _told()
    lie = _lie(target, number, parameters)
    attempt = lie.compare(_ALONE.get(target.family, lying.both_shares)(lie))
    if attempt.worked:
        attempt.refusal = _SAYS.get(target.family, attempt.refusal)
    elif target.family == "committee":
        attempt.refusal += _PLAYED
    return attempt


def split_view(target: Target, number: int, parameters: Parameters | None = None) -> Attempt:
    """Whether the server gets two sums, or shares of both kinds, by different stories."""
    if target.family == "plain":
        return _told()
    lie = _lie(target, number, parameters)
    return lie.compare(_TWICE.get(target.family, lying.split_view)(lie))
