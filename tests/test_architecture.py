"""The rules of the architecture, read off the source: layers, exports, and what is not allowed.

Below `fl/` there is no clock, no I/O, no thread and no randomness but what is passed in. An
exception to a rule stands in a table here, with its reason.
"""

import ast
import builtins
import fnmatch
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from protocols import registry
from protocols.base import Protocol
from secagg import errors

ROOT = Path(__file__).parents[1]
LAYERS = ("secagg", "protocols", "fl")
SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
BELOW_FL = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "fl"]
SHARED = {"he": {"ckks", "bfv"}}  # folders of parts, no protocols: which protocols are made of them
FOLDERS = sorted(
    p.name
    for p in (ROOT / "protocols").iterdir()
    if (p / "__init__.py").exists() and p.name not in SHARED
)
MOST_LINES_IN_A_FILE = 450
MOST_LINES_IN_A_FUNCTION = 60

THIRD_PARTY = {
    "secagg": {"numpy", "numba", "llvmlite", "cryptography", "msgspec"},
    "protocols": {"numpy", "msgspec"},
}
ONLY_IN = {"tenseal": ("protocols/he/", "protocols/ckks/", "protocols/bfv/"), "torch": ("fl/",)}

CLOCKS = {"time", "datetime", "calendar", "sched", "timeit", "zoneinfo"}
NETWORK = {"socket", "socketserver", "ssl", "select", "selectors", "asyncio", "urllib", "http"}
FILES = {"os", "pathlib", "shutil", "tempfile", "glob", "fileinput", "sqlite3", "pickle", "shelve"}
WORKERS = {"threading", "_thread", "multiprocessing", "concurrent", "subprocess", "signal"}
RANDOM = {"random", "secrets", "uuid"}
OUTPUT = {"logging", "warnings"}
NOT_BELOW_FL = CLOCKS | NETWORK | FILES | WORKERS | RANDOM | OUTPUT
JUSTIFIED = {
    ("secagg/rng.py", "secrets"): "the one source of randomness",
    ("secagg/kernels/_parallel.py", "threading"): "threads that live for one call of a kernel",
}
FORBIDDEN_CALLS = {"open", "input", "print", "exec", "eval", "breakpoint", "__import__"}
FORBIDDEN_ATTRIBUTES = {  # other ways to a file or to random bytes
    "random",
    "urandom",
    "generate",
    "generate_key",
    "fromfile",
    "tofile",
    "memmap",
    "loadtxt",
    "savetxt",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports_of(path: Path) -> Iterator[str]:
    """Every module that the file imports, wherever it does, as an absolute dotted name."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            assert node.module
            yield from {f"{node.module}.{alias.name}" for alias in node.names}


def top(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


EACH_SOURCE = pytest.mark.parametrize("path", SOURCES, ids=name_of)
EACH_BELOW_FL = pytest.mark.parametrize("path", BELOW_FL, ids=name_of)


# --- layers ------------------------------------------------------------------------------


@EACH_SOURCE
def test_layers_are_never_imported_upwards(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    for module in imports_of(path):
        assert top(module) in allowed or top(module) not in {*LAYERS, "tests", "benchmarks"}


@EACH_BELOW_FL
def test_third_party_imports_are_those_of_the_layer(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    for module in map(top, imports_of(path)):
        known = module in sys.stdlib_module_names or module in LAYERS
        allowed = any(name_of(path).startswith(place) for place in ONLY_IN.get(module, ()))
        assert known or allowed or module in THIRD_PARTY[layer], module


@EACH_SOURCE
def test_torch_and_tenseal_are_used_where_they_belong(path: Path) -> None:
    for module in map(top, imports_of(path)):
        places = ONLY_IN.get(module, ("",))
        assert any(name_of(path).startswith(place) for place in places), module


@EACH_BELOW_FL
def test_no_clock_no_io_no_thread_and_no_second_random_source(path: Path) -> None:
    found = {top(module) for module in imports_of(path)} & NOT_BELOW_FL
    justified = {module for place, module in JUSTIFIED if place == name_of(path)}
    assert found == justified
    assert {m for m in imports_of(path) if top(m) == "io"} <= {"io.BytesIO"}, "memory only"


@EACH_BELOW_FL
def test_no_call_that_reads_writes_or_draws(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in FORBIDDEN_ATTRIBUTES, f"line {node.lineno}"


INFRASTRUCTURE = {  # what each module beside the folders may use of its neighbours
    "__init__": set(),
    "base": {"session", "snapshot"},
    "session": set(),
    "journal": {"base"},
    "driver": {"base", "journal"},
    "snapshot": set(),
    "policy": {"base"},
    "registry": {"base"},
}


@pytest.mark.parametrize("path", [p for p in BELOW_FL if "protocols" in p.parts], ids=name_of)
def test_protocols_meet_only_in_base(path: Path) -> None:
    used = {m.split(".")[1] for m in imports_of(path) if m.startswith("protocols.")}
    inside = path.relative_to(ROOT / "protocols").parts
    parts = {folder for folder, users in SHARED.items() if inside[0] in users}
    allowed = {"base", inside[0], *parts} if len(inside) > 1 else INFRASTRUCTURE[path.stem]
    assert used <= allowed


# --- exports -----------------------------------------------------------------------------


def exports(path: Path) -> list[str] | None:
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign) and _targets(node) == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return None


def _targets(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def bound_names(path: Path) -> tuple[set[str], set[str]]:
    """What a module binds at its top, to a type checker at least: all names, and its own."""
    package = ".".join(path.parent.relative_to(ROOT).parts)
    every: set[str] = set()
    own: set[str] = set()
    top = tree_of(path).body
    for node in [
        *top,
        *(each for block in top if isinstance(block, ast.If) for each in block.body),
    ]:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            own.update(_targets(node))
        elif isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name for alias in node.names}
            inside = path.stem == "__init__" and f"{node.module}.".startswith(f"{package}.")
            (own if inside else every).update(names)
    return every | own, {name for name in own if not name.startswith("_")}


@pytest.mark.parametrize("path", [p for p in SOURCES if exports(p) is not None], ids=name_of)
def test_all_is_exactly_what_is_public(path: Path) -> None:
    listed = exports(path)
    every, own = bound_names(path)
    assert len(set(listed)) == len(listed)
    assert set(listed) <= every
    assert own <= set(listed)


def test_every_protocol_folder_says_what_it_exports() -> None:
    for folder in FOLDERS:
        listed = exports(ROOT / "protocols" / folder / "__init__.py")
        assert listed is not None
        assert "PROTOCOL" in listed


# --- the registry ------------------------------------------------------------------------


def test_every_folder_is_registered_and_every_entry_has_a_folder() -> None:
    registered = {entry.folder: name for name, entry in registry.PROTOCOLS.items()}
    assert len(registered) == len(registry.PROTOCOLS)
    assert set(registered) == {f"protocols.{folder}" for folder in FOLDERS}
    assert all(folder == f"protocols.{name}" for folder, name in registered.items())


@pytest.mark.parametrize("name", sorted(registry.PROTOCOLS))
def test_every_entry_loads_and_says_what_it_is(name: str) -> None:
    protocol, entry = registry.load(name), registry.entry(name)
    assert isinstance(protocol, Protocol)
    assert protocol.name == name
    stages = protocol.configure(5, 10, 16).stages
    assert stages
    assert len(set(stages)) == len(stages)
    assert all((entry.summary, entry.needs, entry.serves))
    assert "\n" not in entry.summary + entry.needs
    assert "individuals" not in entry.serves or entry.hides == "nothing"


# --- importing ---------------------------------------------------------------------------

HEAVY = {
    "numba",
    "llvmlite",
    "torch",
    "tenseal",
    "matplotlib",
    "sklearn",
    "rich",
    "typer",
    "jinja2",
}


def loaded_after(statement: str) -> set[str]:
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(run.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import protocols",
        "import protocols.base, protocols.driver, protocols.journal, protocols.registry",
        "import protocols.plain, protocols.masking",
        "import secagg.prg, secagg.packing, secagg.shamir, secagg.encoding, secagg.kernels",
    ],
)
def test_importing_loads_nothing_heavy_and_compiles_nothing(statement: str) -> None:
    assert not {top(module) for module in loaded_after(statement)} & HEAVY


def test_the_registry_is_read_without_loading_any_protocol() -> None:
    loaded = loaded_after("from protocols.registry import PROTOCOLS, entry; entry('masking')")
    assert not {f"protocols.{folder}" for folder in FOLDERS} & loaded


# --- packaging ---------------------------------------------------------------------------


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_exactly_three_packages_are_installed_and_typed() -> None:
    setuptools = pyproject()["tool"]["setuptools"]
    patterns = setuptools["packages"]["find"]["include"]
    here = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    installed = {name for name in here if any(fnmatch.fnmatch(name, p) for p in patterns)}
    assert installed == set(LAYERS)
    assert "py.typed" in setuptools["package-data"]["*"]
    assert all((ROOT / layer / "py.typed").exists() for layer in LAYERS)


def test_every_folder_of_code_is_a_package() -> None:
    assert all((path.parent / "__init__.py").exists() for path in SOURCES)


# --- exceptions --------------------------------------------------------------------------

BUILTIN_ERRORS = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
OURS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.SecaggError)
}


def test_every_exception_is_a_secagg_error() -> None:
    assert all(value.code for name in OURS if (value := getattr(errors, name)))
    known = set(OURS)
    for path in SOURCES:
        for node in (n for n in ast.walk(tree_of(path)) if isinstance(n, ast.ClassDef)):
            bases = {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
            if not bases & (BUILTIN_ERRORS | known):
                continue
            assert node.name in OURS or bases & known, f"{name_of(path)}: {node.name}"
            assert node.name in OURS or name_of(path).startswith("fl/"), name_of(path)
            known.add(node.name)


def test_the_docstring_of_errors_draws_all_of_them() -> None:
    assert all(name in errors.__doc__ for name in OURS)


@EACH_BELOW_FL
def test_nothing_is_caught_blindly(path: Path) -> None:
    """`except Exception` would turn a bug into a peer's fault. `BaseException` must re-raise."""
    for node in (n for n in ast.walk(tree_of(path)) if isinstance(n, ast.ExceptHandler)):
        caught = (
            {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {""}
        )
        if caught & {"", "Exception", "BaseException"}:
            last = node.body[-1]
            assert isinstance(last, ast.Raise), f"line {node.lineno}"
            assert last.exc is None, f"line {node.lineno}"


# --- size --------------------------------------------------------------------------------


@EACH_SOURCE
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES_IN_A_FILE
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < MOST_LINES_IN_A_FUNCTION, node.name
