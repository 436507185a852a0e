"""The code keeps its order: imports point one way, and each special thing stays in its place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From what everyone may import to what nobody may. A module imports from the layers before its own,
# and from its own package.
LAYERS = (
    {"errors"},
    {"paths", "sizes"},
    {"fields", "arrays", "random_keys", "cli", "plotting"},
    {"flows", "parallel"},
    {"conditioning"},
    {"config"},
    {"video"},
    {"data"},
    {"evaluation", "coding", "playing"},
    {"training"},
    {"gan"},
    {
        *("train", "evaluate", "sample", "preview", "compress", "decompress", "score"),
        *("interpolate", "play"),
    },
)
ENTRY_POINTS = {
    "train",
    "evaluate",
    "sample",
    "preview",
    "compress",
    "decompress",
    "score",
    "interpolate",
    "play",
}
MOST_LINES = 300


def files_of(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """The module or package of flowvid that a file belongs to: "errors", "flows", ..."""
    return path.relative_to(ROOT / "flowvid").parts[0].removesuffix(".py")


def imports_of(source: str) -> set[str]:
    """The dotted names below flowvid that a source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("flowvid.") for name in found if name.startswith("flowvid.")}


def packages_of(source: str) -> set[str]:
    """The modules or packages directly below flowvid that a source imports."""
    return {name.split(".")[0] for name in imports_of(source)}


MODULES = [path for path in files_of("flowvid") if path != ROOT / "flowvid" / "__init__.py"]


def test_imports_are_found_however_they_are_written():
    source = (
        "import flowvid.cli\nfrom flowvid import errors as e, fields\ndef f():\n"
        "    from flowvid.flows.bijectors.base import Params\n"
    )
    assert packages_of(source) == {"cli", "errors", "fields", "flows"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    name, depth = name_of(path), {m: i for i, layer in enumerate(LAYERS) for m in layer}
    assert name in depth, f"give {name} its place in LAYERS"
    imported = packages_of(path.read_text()) - {name}
    upward = {other for other in imported if depth.get(other, len(LAYERS)) >= depth[name]}
    assert not upward, f"{name} imports {upward}, which stand beside or above it"


def test_bijectors_import_nothing_else_of_flowvid():
    for path in files_of("flowvid/flows/bijectors"):
        other = {n for n in imports_of(path.read_text()) if not n.startswith("flows.bijectors")}
        assert not other, path


def test_the_gan_is_needed_by_nothing_else():
    for path in MODULES:
        assert name_of(path) == "gan" or "gan" not in packages_of(path.read_text()), path


def test_data_builders_need_no_model():
    for path in files_of("data_builders"):
        allowed = ("errors", "paths", "sizes", "data.decoding", "data.pictures")
        if path.name.endswith("_test.py"):  # what finds datasets imports the builders
            allowed += ("data.",)
        other = {n for n in imports_of(path.read_text()) if not n.startswith(allowed)}
        assert not other - {"data", ""}, path


def names_in(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in nodes if isinstance(node, ast.Name)}


def test_pmap_stands_in_one_file():
    users = [str(path.relative_to(ROOT)) for path in MODULES if "pmap" in names_in(path)]
    assert users == ["flowvid/parallel/devices.py"]


def test_flags_are_read_in_few_places():
    readers = {
        str(path.relative_to(ROOT / "flowvid").with_suffix(""))
        for path in MODULES
        if "flags" in names_in(path)
    }
    of_gan = {"gan/train", "gan/sample"}
    assert readers == ENTRY_POINTS | of_gan | {"config/command_line", "fields", "cli"}


FOLDERS = ("flowvid", "data_builders", "experiments", "tests")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_module_says_what_it_is_for(folder):
    for path in files_of(folder):
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_too_long_to_be_read_at_once(folder):
    lines = {str(p.relative_to(ROOT)): p.read_text().count("\n") for p in files_of(folder)}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    code = f"{statement}; import sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(result.stdout.split())


def test_bijectors_load_no_other_module_of_flowvid():
    packages = {"flowvid.flows"}
    loaded = {
        m for m in modules_after("import flowvid.flows.bijectors") if m.startswith("flowvid.")
    }
    assert all(m in packages or m.startswith("flowvid.flows.bijectors") for m in loaded), loaded


def test_what_builders_import_loads_no_jax():
    loaded = modules_after("import flowvid, flowvid.data.media, flowvid.data.datasets")
    assert {"flowvid.data.media", "flowvid.data.catalog", "flowvid.data.tfds_records"} <= loaded
    assert not loaded & {"jax", "tensorflow"}


@pytest.mark.parametrize("name", [*sorted(ENTRY_POINTS), "gan.train", "gan.sample"])
def test_flags_are_defined_without_jax(name):
    """So that `--help` and a misspelt flag answer at once."""
    loaded = modules_after(f"import flowvid.{name}")
    assert f"flowvid.{name}" in loaded
    assert not loaded & {"jax", "flax", "optax", "tensorflow", "orbax"}


def test_builders_load_no_jax():
    builders = [
        f"data_builders.{path.parent.name}.{path.stem}"
        for path in files_of("data_builders")
        if path.name.endswith("_dataset_builder.py")
    ]
    loaded = modules_after(f"import {', '.join(builders)}")
    assert set(builders) <= loaded
    assert len(builders) >= 4
    assert "jax" not in loaded
