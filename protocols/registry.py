"""The protocols by name. Adding one is a folder and a line here.

The module is imported on first use, so what a protocol needs (numba, TenSEAL) is loaded only
by those who run it. What it hides and which strategies it can serve is known without that.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from protocols.base import Protocol
from secagg.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Entry:
    """One protocol.

    hides: what a server that keeps to the protocol does not learn; needs: what must hold for
    that; serves: what a strategy can get from it, `sum` (anything that is a function of the
    sum) or `individuals` (medians, clustering, anything that looks at one update); inner: the
    protocol that this one is wrapped around, and takes as an argument; signs: whether it has an
    active mode, in which members sign and the server may lie.
    """

    folder: str
    summary: str
    hides: Literal["nothing", "individual updates"]
    needs: str
    serves: frozenset[Literal["sum", "individuals"]]
    inner: str = ""
    signs: bool = False


PROTOCOLS: dict[str, Entry] = {
    "plain": Entry(
        "protocols.plain",
        "the sum in clear, the baseline",
        hides="nothing",
        needs="a trusted server",
        serves=frozenset({"sum", "individuals"}),
    ),
    "masking": Entry(
        "protocols.masking",
        "pairwise masking, SecAgg and SecAgg+",
        hides="individual updates",
        needs="a semi-honest server, and two honest clients in every sum",
        serves=frozenset({"sum"}),
        signs=True,
    ),
    "lattice": Entry(
        "protocols.lattice",
        "key-additive encryption, opened by masking the short keys",
        hides="individual updates",
        needs="a semi-honest server, and two honest clients in every sum",
        serves=frozenset({"sum"}),
        inner="masking",
        signs=True,
    ),
    "committee": Entry(
        "protocols.committee",
        "key-additive encryption, opened by a committee: one message a client",
        hides="individual updates",
        needs="a semi-honest server, two honest clients in every sum, and fewer decryptors "
        "that collude than open it",
        serves=frozenset({"sum"}),
    ),
    "ckks": Entry(
        "protocols.ckks",
        "homomorphic encryption with TenSEAL's CKKS and a key holder",
        hides="individual updates",
        needs="a semi-honest server and a key holder that do not collude, and two honest clients "
        "in every sum",
        serves=frozenset({"sum"}),
    ),
    "bfv": Entry(
        "protocols.bfv",
        "homomorphic encryption with TenSEAL's BFV and a key holder",
        hides="individual updates",
        needs="a semi-honest server and a key holder that do not collude, and two honest clients "
        "in every sum",
        serves=frozenset({"sum"}),
    ),
}


def entry(name: str) -> Entry:
    """What the registry says of `name`; ParameterError lists what exists."""
    if name not in PROTOCOLS:
        raise ParameterError(f"no protocol {name!r}; choose one of {', '.join(sorted(PROTOCOLS))}")
    return PROTOCOLS[name]


def load(name: str) -> Protocol:
    """The protocol called `name`; ParameterError lists what exists."""
    line = entry(name)
    found = import_module(line.folder).PROTOCOL
    protocol: Protocol = found(load(line.inner)) if line.inner else found
    return protocol
