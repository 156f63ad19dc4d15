"""Who is killed when: the demo's default script, and the one that `--drop` asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secagg.kdf import derive


@dataclass(frozen=True, slots=True)
class Kill:
    """`client` is killed in `round` as `stage` begins, and is back `away` rounds later; with 0,
    it is killed once it has been asked for this stage, and started again at once.
    """

    round: int
    stage: str
    client: int
    away: int = 1


def default_script(
    stages: Sequence[str], clients: int, spare: int, rounds: int, seed: int
) -> tuple[Kill, ...]:
    """One stage after the other in every second round, then all stages in one round; and in
    the third, one client that is killed while it trains, and back in time.

    Never more than `spare` at a time, counting those who stay away.
    """
    kills: list[Kill] = []
    for number in range(2, rounds + 1, 2):
        chosen = (number // 2 - 1) % (len(stages) + 1)
        hit = stages if chosen == len(stages) else stages[chosen : chosen + 1]
        victims = _shuffled(clients, seed, number)[:spare]
        kills += [Kill(number, s, v) for s, v in zip(hit, victims, strict=False)]
    if rounds >= 3 and "upload" in stages:
        kills.append(Kill(3, "upload", _shuffled(clients, seed, 3)[0], away=0))
    return tuple(kills)


def scripted(
    drops: Mapping[str, int],
    stages: Sequence[str],
    clients: int,
    rounds: int,
    seed: int,
    revives: Mapping[str, int] | None = None,
) -> tuple[Kill, ...]:
    """So many clients at each stage, in every second round; in the only one if there is one.

    Those of `revives` are others, and back at once.
    """
    kills: list[Kill] = []
    for number in range(min(2, rounds), rounds + 1, 2):
        victims = iter(_shuffled(clients, seed, number))
        for stage in stages:
            kills += [Kill(number, stage, next(victims)) for _ in range(drops.get(stage, 0))]
        for stage in stages:
            back = range((revives or {}).get(stage, 0))
            kills += [Kill(number, stage, next(victims), away=0) for _ in back]
    return tuple(kills)


def _shuffled(clients: int, seed: int, number: int) -> list[int]:
    """The clients in an order that depends on the seed and the round only."""
    secret = seed.to_bytes(16, "big", signed=True)
    return sorted(range(1, clients + 1), key=lambda who: derive(secret, "kill order", number, who))
