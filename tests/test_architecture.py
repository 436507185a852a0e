"""The house keeps its order: imports point one way, and each special thing stays in its place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From what everyone may import to what nobody may; a module imports from the layers before its own.
LAYERS = (
    {"errors"},
    {"bijectors", "chunks", "likelihood", "streams", "decoding", "distributed", "fields"},
    {"config", "networks"},
    {"glow"},
    {"head", "tail", "state"},
    {"steps", "checkpoints", "sampling", "records", "media", "codecs"},
    {"catalog", "interruption"},
    {"data"},
    {"model", "baselines", "scoring"},
    {"labels", "incidents", "inspection", "trainer", "stability", "cost", "summary"},
    {"evaluation"},
    {"reporting"},
    {"training"},
    {"cli"},
    {"train", "evaluate", "sample", "preview", "gan"},
)
PACKAGES = {"bijectors", "networks", "gan"}  # one layer each; inside, files import each other
ENTRY_POINTS = {"train", "evaluate", "sample", "preview"}


def files_of(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """The module or package of flowvid that a file belongs to: "glow", "bijectors", ..."""
    return path.relative_to(ROOT / "flowvid").parts[0].removesuffix(".py")


def imports_of(source: str) -> set[str]:
    """The modules or packages of flowvid that a source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in found]
    return {p[1] for p in parts if p[0] == "flowvid" and len(p) > 1}


MODULES = [path for path in files_of("flowvid") if path != ROOT / "flowvid" / "__init__.py"]


def test_imports_are_found_however_they_are_written():
    source = (
        "import flowvid.tail\nfrom flowvid import head as h, data\ndef f():\n"
        "    from flowvid.bijectors.base import Params\n"
    )
    assert imports_of(source) == {"tail", "head", "data", "bijectors"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    name, depth = name_of(path), {m: i for i, layer in enumerate(LAYERS) for m in layer}
    assert name in depth, f"give {name} its place in LAYERS"
    imported = imports_of(path.read_text()) - ({name} & PACKAGES)
    upward = {other for other in imported if depth.get(other, len(LAYERS)) >= depth[name]}
    assert not upward, f"{name} imports {upward}, which stand beside or above it"


def test_bijectors_import_nothing_else_of_flowvid():
    for path in files_of("flowvid/bijectors"):
        assert imports_of(path.read_text()) <= {"bijectors"}, path


def test_data_builders_need_no_model():
    for path in files_of("data_builders"):
        # What finds data sets imports the builders, so only their tests may import it.
        of_tests = {"data", "records", "media"} if path.name.endswith("_test.py") else set()
        assert imports_of(path.read_text()) <= {"decoding", "errors"} | of_tests, path


def names_in(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in nodes if isinstance(node, ast.Name)}


def test_pmap_stands_in_one_file():
    assert [path.name for path in MODULES if "pmap" in names_in(path)] == ["steps.py"]


def test_flags_are_read_in_config_and_entry_points_alone():
    readers = {path.stem for path in MODULES if "flags" in names_in(path)}
    assert readers == ENTRY_POINTS | {"config", "fields"}


@pytest.mark.parametrize("folder", ["flowvid", "data_builders", "tests"])
def test_every_module_says_what_it_is_for(folder):
    for path in files_of(folder):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    code = f"{statement}; import sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(result.stdout.split())


def test_bijectors_load_no_other_module_of_flowvid():
    loaded = {m for m in modules_after("import flowvid.bijectors") if m.startswith("flowvid.")}
    assert all(module.startswith("flowvid.bijectors") for module in loaded), loaded


def test_what_builders_import_loads_no_jax():
    loaded = modules_after("import flowvid, flowvid.media, flowvid.data")
    assert {"flowvid.media", "flowvid.catalog", "flowvid.records"} <= loaded
    assert not loaded & {"jax", "tensorflow"}


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
