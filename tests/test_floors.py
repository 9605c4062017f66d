"""The floors of docs/ARCHITECTURE.md, held by reading every import: a package imports lower floors only, and no modules import
each other in a circle.

An import inside a function, or for type checkers alone (`if TYPE_CHECKING`), counts as much as one at the top.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = (
    (
        "errors",
        "span",
        "precision",
        "identity",
        "membership",
        "records",
        "shares",
        "sampling",
        "config",
        "trace",
        "version",
        "torch_environment",
    ),
    ("wire", "routing", "model"),
    ("checkpoint", "kernels"),
    ("engine", "text", "transport", "discovery"),
    ("worker", "client"),
    ("gateway",),
    ("node",),
    ("cli", "demo", "bench", "__main__"),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
TOP = len(FLOORS) - 1
OUTSIDE = ("bootstrap", "chaos")  # beside swarm/, above everything in it

DISPATCHED = {("cli", "demo"), ("cli", "bench"), ("__main__", "cli")}  # a command line has to start what it offers
PURE = ("asyncio", "time", "datetime", "random", "secrets", "socket", "ssl", "select", "subprocess", "os")
SOCKETS = ("socket", "ssl", "asyncio_dgram", "kademlia", "rpcudp", "http", "urllib")
WITH_SOCKETS = ("transport", "discovery", "gateway", "node", "cli", "demo", "bench")
NEVER = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
OPTIONAL = {
    "transformers": "swarm/engine/backends/library",
    "triton": "swarm/kernels/triton",
}  # extras, and the one package that imports each
RUNS_DATA = ("eval", "exec", "compile", "__import__")
LOADS_CODE = ("torch.load", "torch.jit.load", "torch.hub.load", "numpy.load", "np.load", "yaml.load")
WITHOUT_TORCH = ("text", "transport", "discovery")  # as are floors 0 and 1
LIGHT = (
    "swarm",
    "swarm.model.spec",
    "swarm.checkpoint",
    "swarm.text.tokenizer",
    "swarm.text.grammar",
    "swarm.cli.models",
    "swarm.cli.answer.request",
    "swarm.cli.serve",
    "swarm.cli",
    "swarm.wire",
    "swarm.routing",
    "swarm.errors",
    "swarm.records",
    "swarm.config",
    "swarm.client.audits.bans",
    "swarm.client.audits.proof",
)


@dataclass(frozen=True)
class Import:
    """One imported module, where it stands, and whether only type checkers see it."""

    file: Path
    line: int
    module: str
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def package_of(file: Path) -> str:
    """The floor's entry that a file of swarm/ belongs to; "" for swarm/__init__.py."""
    first = file.relative_to(ROOT / "swarm").parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports_of(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    hidden = {id(inner) for node in ast.walk(tree) if _for_typing(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(file, node)
            # `from swarm import errors` imports swarm.errors; of other packages the base is enough.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "swarm" else [base]
        elif isinstance(node, ast.Call) and _dotted(node.func).endswith("import_module"):
            first = node.args[0] if node.args else None
            names = [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
        for name in names:
            yield Import(file, node.lineno, name, id(node) in hidden)


def _for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and _dotted(node.test).endswith("TYPE_CHECKING")


def _absolute(file: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = file.relative_to(ROOT).with_suffix("").parts[: -node.level]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def misplaced(found: Import) -> bool:
    """Whether it is an extra that another package is for."""
    package = OPTIONAL.get(found.module.split(".")[0])
    return package is not None and not found.file.is_relative_to(ROOT / package)


def breach(importer: str, found: Import) -> str | None:
    """Why a package of swarm/ may not import this; None if it may."""
    parts = found.module.split(".")
    top = parts[0]
    if top in OUTSIDE:
        return "nothing in swarm/ knows what stands beside it"
    if top in NEVER:
        return f"{top} is never imported by swarm"
    if misplaced(found):
        return f"{top} may not be installed: {OPTIONAL[top]} alone imports it"
    floor = FLOOR.get(importer, TOP)
    if top == "torch" and (floor < 2 or importer in WITHOUT_TORCH):
        return f"torch is for floor 2 and above, and not for {', '.join(WITHOUT_TORCH)}"
    if floor == 1 and top in PURE:
        return "floor 1 is pure"
    if top in SOCKETS and importer not in WITH_SOCKETS:
        return "sockets are for transport, discovery and what is above"
    if top != "swarm" or len(parts) == 1:
        return None
    return _breach_within(importer, parts[1], found.typing_only)


def _breach_within(importer: str, imported: str, typing_only: bool) -> str | None:
    if imported not in FLOOR or importer == imported:
        return None  # a name of swarm/__init__.py, or the package's own
    if importer == "":
        return None if typing_only or imported == "version" else "importing swarm loads nothing else"
    if FLOOR[imported] == FLOOR[importer] == 0 or (importer, imported) in DISPATCHED:
        return None
    if FLOOR[imported] == FLOOR[importer]:
        return "packages on one floor do not import each other"
    return f"floor {FLOOR[imported]} is above floor {FLOOR[importer]}" if FLOOR[imported] > FLOOR[importer] else None


@pytest.mark.parametrize("file", sources("swarm"), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down_only(file: Path) -> None:
    breaches = [f"{found}: {why}" for found in imports_of(file) if (why := breach(package_of(file), found))]
    assert not breaches, "\n".join(breaches)


def test_every_package_has_a_floor() -> None:
    assert {package_of(file) for file in sources("swarm")} - {""} <= set(FLOOR)


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def needs_of(files: Sequence[Path]) -> dict[str, set[str]]:
    """Which of these modules each of them imports."""
    known = {module_name(file): file for file in files}
    return {
        name: {each for each in _modules_of(file) if each in known and each != name} for name, file in known.items()
    }


def _modules_of(file: Path) -> Iterator[str]:
    """What may be modules: `from a import b` names a and a.b."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(file, node)
            whole = [f"{base}.{alias.name}" for alias in node.names]
            modules = [each for each in whole if _is_module(each)]
            yield from modules if len(modules) == len(whole) else [base, *modules]


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def circle_in(needs: Mapping[str, set[str]]) -> list[str]:
    """Modules that are left when all that need none of the others are taken away, again and again; none: no circle."""
    left = {name: set(below) for name, below in needs.items()}
    while free := [name for name, below in left.items() if not below & left.keys()]:
        for name in free:
            del left[name]
    while idle := [name for name in left if not any(name in below for below in left.values())]:
        for name in idle:
            del left[name]
    return sorted(left)


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = [file for folder in ("swarm", *OUTSIDE) for file in sources(folder)]
    assert circle_in(needs_of(files)) == []


@pytest.mark.parametrize("folder", ["swarm", *OUTSIDE])
def test_data_is_never_run_as_code(folder: str) -> None:
    found = []
    for file in sources(folder):
        entries = list(imports_of(file))
        found += [str(entry) for entry in entries if entry.module.split(".")[0] in NEVER or misplaced(entry)]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (_dotted(node.func) in (*RUNS_DATA, *LOADS_CODE)):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno} calls {_dotted(node.func)}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", LIGHT)
def test_torch_is_loaded_only_when_it_is_needed(module: str) -> None:
    program = f"import sys, {module}; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


class TestTheRulesThemselves:
    """A rule that nothing breaks might as well check nothing."""

    @pytest.mark.parametrize(
        ("importer", "module"),
        [
            ("records", "swarm.wire.frames"),
            ("wire", "swarm.routing.chain"),
            ("wire", "asyncio"),
            ("routing", "torch.nn"),
            ("span", "torch"),
            ("model", "torch"),
            ("text", "torch"),
            ("model", "swarm.checkpoint.gguf.file"),
            ("text", "swarm.engine.head"),
            ("checkpoint", "swarm.engine.stage"),
            ("engine", "swarm.transport.tls.network"),
            ("engine", "socket"),
            ("client", "swarm.worker"),
            ("client", "swarm.demo"),
            ("gateway", "swarm.node"),
            ("bench", "swarm.cli"),
            ("node", "chaos.faults"),
            ("cli", "bootstrap"),
            ("engine", "transformers"),
            ("engine", "pickle"),
            ("", "swarm.client"),
        ],
    )
    def test_it_is_forbidden(self, importer: str, module: str) -> None:
        assert breach(importer, Import(ROOT, 1, module, False))

    @pytest.mark.parametrize(
        ("importer", "module"),
        [("records", "swarm.span"), ("client", "swarm.routing.finder"), ("cli", "swarm.bench"), ("engine", "torch")],
    )
    def test_it_is_allowed(self, importer: str, module: str) -> None:
        assert breach(importer, Import(ROOT, 1, module, False)) is None

    def test_a_circle_is_seen(self) -> None:
        assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}) == ["b", "c"]
        assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []

    def test_an_extra_is_for_one_package(self) -> None:
        inside = ROOT / OPTIONAL["transformers"] / "imagined.py"
        assert breach("engine", Import(inside, 1, "transformers.cache_utils", False)) is None
        assert breach("engine", Import(inside.parent.parent / "own.py", 1, "transformers", False))

    def test_every_form_of_import_is_seen(self, tmp_path: Path) -> None:
        file = tmp_path / "imagined.py"
        file.write_text(
            "import a.b\nfrom c import d\nfrom swarm import node\ndef late():\n    import g\n"
            "if TYPE_CHECKING:\n    import h\nimportlib.import_module('i.j')\n"
        )
        found = {found.module: found.typing_only for found in imports_of(file)}
        assert found == {"a.b": False, "c": False, "swarm.node": False, "g": False, "h": True, "i.j": False}

    def test_relative_imports_are_followed(self) -> None:
        file = ROOT / "swarm" / "worker" / "imagined.py"
        nodes = ast.parse("from . import a\nfrom .b import c\nfrom ..client import d").body
        found = [_absolute(file, node) for node in nodes if isinstance(node, ast.ImportFrom)]
        assert found == ["swarm.worker", "swarm.worker.b", "swarm.client"]
