"""Model inconsistency: all but the victim get a model whose first layer is dead.

Their gradients of that layer are zero, and the sum's is the victim's alone, whatever the size
of the cohort (Pasquini et al., CCS 2022, arXiv:2111.07380). The server rewrites whatever it
may so that each client sees the model that it was given, and only that.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from benchmarks.security.attack import Attack, Case, Effort
from benchmarks.security.inversion import HIDDEN, records
from benchmarks.security.lying import VICTIM
from benchmarks.security.stats import bootstrap
from benchmarks.security.targets import APPLICATION, Target
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.views import Floats, encode_with
from fl.inversion import one_record_update
from fl.models import build, load_vector, to_vector
from protocols.base import SERVER, Envelope, Machine, State
from protocols.driver import Simulation
from protocols.he import keys as he_keys
from protocols.he.messages import Upload as Sealed
from protocols.lattice.states import Relay
from secagg.codec import decode, encode
from secagg.encoding import FixedPoint
from secagg.kdf import digest
from secagg.seal import suite

FIRST = HIDDEN * 65
"""Coordinates of the first layer."""


class TwoModels(Simulation):
    """A server that shows the victim one model and everybody else another."""

    def _advance(self, me: int, request: Sequence[Envelope]) -> list[Envelope]:
        machine, ours = self.parties[me].machine, self.application
        self.application = application_of(me)
        try:
            shown = self.application
            rewritten = [_rewritten(each, machine, application=shown) for each in request]
            return super()._advance(me, rewritten)
        finally:
            self.application = ours

    def _deliver_to_server(self, envelopes: Iterable[Envelope]) -> None:
        machine = self.server.machine
        received = [_resealed(each, machine) for each in envelopes]
        super()._deliver_to_server([_rewritten(each, machine) for each in received])


def application_of(me: int) -> bytes:
    """The digest of what party `me` was shown; helpers see what all but the victim see."""
    return APPLICATION if me == VICTIM else digest("model", "with a dead first layer")


def _rewritten(envelope: Envelope, machine: Machine, **fields: Any) -> Envelope:
    """The message as its recipient would expect it: all that is not sealed or signed."""
    body = decode(envelope.data, machine.receivable)
    inside = getattr(machine.state, "inner", None)
    if inside is not None:
        body = _relayed(body, machine, inside, fields)
    data = encode(_expected(body, machine.state.expected_context, fields))
    return Envelope(envelope.sender, envelope.to, envelope.stage, data)


def _expected(body: Any, context: bytes | None, fields: Mapping[str, Any]) -> Any:
    known = {name: value for name, value in fields.items() if hasattr(body, name)}
    if context:
        known["context"] = context
    return msgspec.structs.replace(body, **known)


def _relayed(body: Any, machine: Any, inside: State, fields: Mapping[str, Any]) -> Any:
    """The same for the message that is in it."""
    name = "data" if isinstance(body, Relay) else "inner"
    if not getattr(body, name):
        return body
    inner = decode(getattr(body, name), machine._inner.receivable)
    changed = encode(_expected(inner, inside.expected_context, fields))
    return msgspec.structs.replace(body, **{name: changed})


def _resealed(envelope: Envelope, machine: Any) -> Envelope:
    """What a client sealed for the server, which has the key and knows what that client was
    shown, as if it had been shown what the server's own code expects.
    """
    body = decode(envelope.data, machine.receivable)
    if not isinstance(body, Sealed):
        return envelope
    state, known = machine.state, suite(machine.parameters.suite)
    pair = he_keys.sealing_keys(known, state.seed, machine.session.context)
    before, now = (
        he_keys.sealing_info(context, envelope.sender, body.index)
        for context in (body.context, state.context)
    )
    sealed = pair.public.seal(pair.open(body.sealed, before), now)
    data = encode(msgspec.structs.replace(body, sealed=sealed))
    return Envelope(envelope.sender, envelope.to, envelope.stage, data)


def gradients(clients: int, number: int) -> list[Floats]:
    """One step of each client on one image: the victim's model is whole."""
    x, y = records(clients * (number + 1))
    x, y = x[clients * number :], y[clients * number :]
    whole = build((64, HIDDEN, 10), seed=number)
    dead = build((64, HIDDEN, 10), seed=number)
    start = to_vector(whole)
    start[FIRST - HIDDEN : FIRST] = -1000.0
    load_vector(dead, start)
    models = [whole, *[dead] * (clients - 1)]
    return [
        np.asarray(one_record_update(model, a, b, lr=1.0), np.float64)
        for model, a, b in zip(models, x, y, strict=True)
    ]


def error(target: Target, clients: int, number: int) -> tuple[float, str]:
    """Relative error of the victim's first layer in the sum, 1 where there is no sum."""
    updates = gradients(clients, number)
    encoding = FixedPoint(24, 2.0, 1, clients)
    inputs = {u: encode_with(encoding, update, u) for u, update in enumerate(updates, 1)}
    parameters = target.parameters(clients, len(inputs[1]), encoding.modulus_bits)
    simulation = target.simulation(parameters, inputs, number, record=False, kind=TwoModels)
    outcome = simulation.run()
    if outcome.result is None:
        why = next((str(e) for who, e in outcome.errors if who != SERVER), str(outcome.abort))
        return 1.0, why
    mean, _ = encoding.decode(outcome.result.total)
    found = mean[:FIRST] * len(outcome.result.contributors)
    true = updates[0][:FIRST]
    return min(1.0, float(np.linalg.norm(found - true) / np.linalg.norm(true))), ""


def _measure(target: Target, effort: Effort) -> Measured:
    clients = effort.of(6, 20)
    tried = [error(target, clients, number) for number in range(effort.of(4, 8))]
    errors = np.array([each for each, _ in tried])
    note = next((why for _, why in tried if why), f"{clients} clients")
    return Measured(float(errors.mean()), *bootstrap(errors), "bootstrap", note)


ATTACK = Attack(
    "model inconsistency",
    "The victim gets the model, all others one whose first layer is dead. How far from the "
    "victim's gradient is the sum's?",
    "Pasquini et al., CCS 2022, arXiv:2111.07380",
    "relative error of the victim's gradient",
    (Case("one dead layer", Rule(bar=0.1, baseline=0.9, wins="below"), _measure),),
)
