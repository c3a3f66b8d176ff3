"""The house's arrows: who may import whom, and what ``--help`` must never wait for."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pbpk", "allometry", "vpop")
MAY_IMPORT = {
    "pbpk": {"pbpk"},
    "allometry": {"allometry", "pbpk"},
    "vpop": {"vpop", "pbpk"},
}
NEVER_INSTALLED = {"tests", "experiments"}
HEAVY = ("torch", "pandas", "matplotlib", "pyarrow", "scipy", "torch_geometric", "torchdiffeq")
OPTIONAL = {"matplotlib", "pyarrow", "dask", "jinja2", "pint"}
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
COMMANDS = [package for package in PACKAGES if (ROOT / package / "__main__.py").exists()]


def names(tree: ast.AST) -> set[str]:
    """The top-level names of everything that a module imports, at whatever depth of the module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def eager(tree: ast.Module) -> ast.Module:
    """What runs when the module is imported: its body without functions and without type-checking blocks."""

    class Prune(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            guarded = "TYPE_CHECKING" in ast.unparse(node.test)
            return None if guarded else self.generic_visit(node)

    return Prune().visit(tree)


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def label(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", FILES, ids=label)
def test_a_package_imports_only_those_below_it(file: Path) -> None:
    package = file.relative_to(ROOT).parts[0]
    ours = names(parse(file)) & {*PACKAGES, *NEVER_INSTALLED}
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("file", FILES, ids=label)
def test_what_is_heavy_and_optional_is_imported_where_it_is_used(file: Path) -> None:
    assert not names(eager(parse(file))) & OPTIONAL


@pytest.mark.parametrize("file", FILES, ids=label)
def test_relative_imports_do_not_hide_an_arrow(file: Path) -> None:
    assert not [n for n in ast.walk(parse(file)) if isinstance(n, ast.ImportFrom) and n.level]


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_of_a_package_do_not_import_in_a_circle(package: str) -> None:
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in FILES
        if file.relative_to(ROOT).parts[0] == package
    }
    arrows = {name: imported(eager(parse(file)), modules) - {name} for name, file in modules.items()}
    done: set[str] = set()
    while arrows:
        leaves = {name for name, below in arrows.items() if below <= done}
        assert leaves, f"a circle among {sorted(arrows)}"
        done |= leaves
        arrows = {name: below for name, below in arrows.items() if name not in leaves}


def imported(tree: ast.Module, modules: dict[str, Path]) -> set[str]:
    """The modules of one package that a module imports when it is imported itself."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= parts & set(modules) or {node.module}
    return found & set(modules)


def test_the_walk_sees_an_import_wherever_it_stands() -> None:
    tree = ast.parse(
        "def f():\n    from vpop.sample import x\nimport torch\nif TYPE_CHECKING:\n    import pint\n"
    )
    assert names(tree) == {"vpop", "torch", "pint"}
    assert names(eager(tree)) == {"torch"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_without_importing_anything_heavy(command: str) -> None:
    """Every command and each of its subcommands; HEAVY are found by what python itself says it loaded."""
    for arguments in [["--help"], *([sub, "--help"] for sub in subcommands(command))]:
        answer = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", command, *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in answer.stderr.splitlines()}
        assert answer.returncode == 0 and answer.stdout.startswith("usage: "), arguments
        assert "argparse" in loaded and not loaded & set(HEAVY), arguments


def subcommands(command: str) -> list[str]:
    """The subcommands that ``add_parser("name", ...)`` names in a package's ``__main__``."""
    tree = parse(ROOT / command / "__main__.py")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    adds = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "add_parser"]
    return [c.args[0].value for c in adds if isinstance(c.args[0], ast.Constant)]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_loads(package: str) -> None:
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert sorted(dir(module)) == sorted(module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
