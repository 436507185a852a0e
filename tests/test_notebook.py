"""docs/quickstart.ipynb runs from its first cell to its last, with a small run."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytest_plugins = ["system_fixtures"]

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def executed(run_of, tmp_path_factory):
    """The notebook, run from its first cell to its last in an empty folder."""
    workdir, folder = run_of("state_label"), tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWVID_RUN", str(workdir))
        patch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=300, resources=resources).execute()
    return notebook


def text_of(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    return "".join(output.get("text", "") for output in outputs)


def test_it_runs_and_every_bin_comes_back(executed):
    text = text_of(executed)
    assert "glow state_label step 4" in text
    assert "All bins are the same: True" in text


def test_the_pictures_are_there(executed):
    """In the notebook as it is shown, too, which was run with a real model."""
    for notebook in (executed, nbformat.read(NOTEBOOK, as_version=4)):
        with_picture = [
            cell
            for cell in notebook.cells
            if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        ]
        assert len(with_picture) == 6
