"""The notebooks are those of their scripts, hold their outputs, and say which files of a checkout they need."""

import importlib
import json
import re

import pytest
from harness import ROOT

pytestmark = pytest.mark.once
FOLDER = ROOT / "examples" / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))
MOST_BYTES = 600_000
# The files of examples/ that a notebook may import: a network and the reader of its weights are too long for a lesson.
# Every other notebook needs nothing but itself.
NEEDED = {"06_transfer_learning": ["pretrained.py", "state_dict.py"]}


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


@pytest.fixture
def needed_files(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("needed_files").needed_files


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
def test_a_notebook_runs_where_there_is_nothing_else(path, needed_files):
    """It installs keras_reg where that is missing. Files of a checkout that it imports are named before they are used.

    `make notebooks` runs it in a folder that has only these files, as on Colab. In a clone, they are one folder above.
    """
    cells = cells_of_script(path)
    first = next(index for index, (kind, _) in enumerate(cells) if kind == "code")
    assert 'find_spec("keras_reg") is None' in cells[first][1] and "pip" in cells[first][1]
    files = [file.name for file in needed_files(path)]
    assert files == NEEDED.get(path.stem, [])
    assert all(f"`{name}`" in cells[first - 1][1] for name in files)
    assert ('sys.path.append("..")' in cells[first][1]) == bool(files)


def test_files_are_needed_if_they_are_imported_at_once(needed_files, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import os\nfrom state_dict import read_state_dict\n\n\ndef f():\n    import digits\n")
    assert [file.name for file in needed_files(script)] == ["state_dict.py"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_in_the_navigation(path):
    assert f"notebooks/{path.stem}.ipynb" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
