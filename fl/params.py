"""`secagg params`: what a federation's size means for the lattice protocols, with the budget."""

from math import log2

from rich.console import Console
from rich.table import Table

from secagg.errors import ParameterError
from secagg.ringset import MOST_CLIENTS, SETS, Plan, choose

SERVED = ("lattice", "committee")
MIN_BITS, MAX_BITS = 2, 64


def show(protocol: str, clients: int, bits: int, length: int, console: Console) -> None:
    """Print each ring set for sums of `bits` bits over `clients` clients, and the one to take.

    Raises ParameterError where no set holds the sums.
    """
    if protocol not in SERVED:
        raise ParameterError(f"{protocol!r} has no ring; choose one of {', '.join(SERVED)}")
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ParameterError(f"sums of {bits} bits; choose {MIN_BITS} to {MAX_BITS}")
    most = min(2**bits - 1, MOST_CLIENTS)
    if not 2 <= clients <= most:
        raise ParameterError(f"{clients} clients; choose 2 to {most} for sums of {bits} bits")
    if length < 1:
        raise ParameterError(f"vectors of {length} values; choose at least 1")
    largest = (2**bits - 1) // clients
    chosen = choose(clients, length, largest)
    console.print(f"sums of {bits} bits over {clients} clients, vectors of {length} values")
    console.print(_table(_plans(clients, length, largest), chosen))
    console.print(_budget(chosen))


def _plans(clients: int, length: int, largest: int) -> list[Plan]:
    """The plan of each set that holds the sum."""
    plans = []
    for ring in SETS.values():
        try:
            plans.append(Plan(ring, clients, length, largest))
        except ParameterError:
            continue
    return plans


def _table(plans: list[Plan], chosen: Plan) -> Table:
    names = ("set", "N", "log2 q", "at most", "values a coefficient", "bytes a value", "upload", "")
    table = Table(*names, box=None)
    for plan in plans:
        ring = plan.ring
        upload = plan.ciphertext_bytes + ring.degree * plan.key_bits // 8
        table.add_row(
            ring.name,
            str(ring.degree),
            str(ring.bits),
            str(ring.most_bits),
            str(plan.fields),
            f"{plan.ciphertext_bytes / plan.length:.2f}",
            f"{upload / 1e6:.3g} MB",
            "chosen" if plan == chosen else "",
        )
    return table


def _budget(plan: Plan) -> str:
    used = plan.delta * plan.most_message + 2 * plan.noise
    return (
        f"noise of {plan.clients} clients: at most {plan.noise} either way, so delta = "
        f"{plan.delta}\n"
        f"largest sum: M = 2^{log2(plan.most_message):.1f} in {plan.fields} fields of "
        f"{plan.radix} bits\n"
        f"delta M + 2 n B = 2^{log2(used):.1f} < q = 2^{log2(plan.ring.modulus):.1f}: exact, "
        f"with {log2(plan.ring.modulus) - log2(used):.1f} bits to spare"
    )
