"""What a session is bound to: the three contexts, the roster and the application.

`context0` fixes who speaks which protocol with which parameters; adverts are made under it.
`context1` adds who takes part, and what is sealed is sealed under it: where two parties' views
differ, nothing they sealed for each other opens. `context2` adds what is trained; masks,
uploads and all that follows them are made under it. So keys can be exchanged before anybody
has seen the model, and masks made for different models do not cancel.
"""

from collections.abc import Iterable, Sequence

from secagg.kdf import digest, label


def roster_digest(names: Sequence[str]) -> bytes:
    """32 bytes that stand for the federation's members, in order of their numbers."""
    return digest("roster", *names)


def session_context(protocol: str, parameters: bytes, session_id: bytes, roster: bytes) -> bytes:
    """`context0`: label and version, protocol, all public parameters, session, roster."""
    return digest("context0", protocol, parameters, session_id, roster)


def cohort_context(context0: bytes, graph_seed: bytes, adverts: bytes) -> bytes:
    """`context1`: `context0`, graph seed, Merkle root of U1's adverts."""
    return digest("context1", context0, graph_seed, adverts)


def bound_context(context1: bytes, application: bytes) -> bytes:
    """`context2`: `context1`, application digest."""
    return digest("context2", context1, application)


def application_digest(
    arrays: Iterable[tuple[str, str, Sequence[int], bytes]], configuration: bytes
) -> bytes:
    """The digest of what is trained: each array's name, dtype, shape and bytes, and the
    round's common configuration. A client computes it from the bytes that it received.
    """
    model = (
        label("array", name, dtype, label("shape", *shape), digest("array bytes", data))
        for name, dtype, shape, data in arrays
    )
    return digest("application", configuration, *model)
