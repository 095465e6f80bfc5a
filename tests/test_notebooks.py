"""The notebooks are those of their scripts, hold their outputs, and need nothing that only a checkout has."""

import ast
import json
import re

import pytest
from harness import ROOT

pytestmark = pytest.mark.once
FOLDER = ROOT / "examples" / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))
MOST_BYTES = 600_000


def cells_of_script(path):
    """[(cell type, source)] of a script in percent format."""
    _, *parts = re.split(r"^# %%(.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    cells = []
    for marker, source in zip(parts[::2], parts[1::2], strict=True):
        markdown = marker.strip() == "[markdown]"
        source = re.sub(r"^# ?", "", source, flags=re.MULTILINE) if markdown else source
        cells.append(("markdown" if markdown else "code", source.strip()))
    return cells


def notebook_of(path):
    return json.loads(path.with_suffix(".ipynb").read_text(encoding="utf-8"))


def outputs_of(path):
    return [output for cell in notebook_of(path)["cells"] for output in cell.get("outputs", [])]


def test_there_are_notebooks_and_each_has_its_script():
    assert len(SCRIPTS) >= 7
    assert [path.with_suffix(".ipynb") for path in SCRIPTS] == sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_script(path):
    """Where this fails: `make notebooks-rebuild`."""
    cells = notebook_of(path)["cells"]
    assert [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in cells] == cells_of_script(path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_was_run_from_top_to_bottom_and_shows_pictures(path):
    code = [cell for cell in notebook_of(path)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in output.get("data", {}) for output in outputs_of(path))
    assert not [output for output in outputs_of(path) if output["output_type"] == "error"]
    assert not [output for output in outputs_of(path) if output.get("name") == "stderr"]
    assert path.with_suffix(".ipynb").stat().st_size < MOST_BYTES


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs_where_there_is_nothing_else(path):
    """It installs keras_reg where that is missing, and imports no file that lies beside it in a checkout."""
    first = next(source for kind, source in cells_of_script(path) if kind == "code")
    assert 'find_spec("keras_reg") is None' in first and "pip" in first
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert not imported & {file.stem for file in (ROOT / "examples").rglob("*.py")}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_in_the_navigation(path):
    assert f"notebooks/{path.stem}.ipynb" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
