"""The release check sees faults of a wheel, an sdist and their metadata, and the README's links work on PyPI."""

import importlib.util
import io
import os
import re
import sys
import tarfile
import types
import zipfile

import pytest
import release
from harness import ROOT

pytestmark = pytest.mark.once

DIST = ROOT / "dist"
METADATA = f"""\
Metadata-Version: 2.4
Name: keras-reg
Version: {release.version()}
License-Expression: Apache-2.0
License-File: LICENSE
Classifier: Typing :: Typed
Requires-Python: >=3.11
Requires-Dist: keras>=3.10
Requires-Dist: numpy>=1.26
Provides-Extra: jax
Requires-Dist: jax>=0.4.34; extra == 'jax'
Provides-Extra: tensorflow
Provides-Extra: torch
Description-Content-Type: text/markdown

# keras_reg

[a link](https://example.org) and `code`
"""
INFO = f"keras_reg-{release.version()}.dist-info/"


@pytest.mark.skipif(os.environ.get("KERAS_REG_TEST_INSTALLED") != "1", reason="`make test` builds dist/")
def test_what_is_built_is_complete(capsys):
    assert release.check(DIST), capsys.readouterr().out


def wheel(path, metadata=METADATA, add=(), leave_out=()):
    names = (release.package() | set(add)) - set(leave_out)
    with zipfile.ZipFile(path, "w") as file:
        for name in names | {INFO + "WHEEL", INFO + "RECORD", INFO + "licenses/LICENSE"}:
            file.writestr(name, "")
        file.writestr(INFO + "METADATA", metadata)
    return path


def test_what_a_wheel_must_hold(tmp_path):
    path = tmp_path / "a.whl"
    assert release.faults_of_wheel(wheel(path)) == []
    assert "keras_reg/py.typed is missing in the wheel" in release.faults_of_wheel(
        wheel(path, leave_out=["keras_reg/py.typed"])
    )
    for stray in ("tests/test_package.py", "docs/index.md", "keras_reg/old.py"):
        assert release.faults_of_wheel(wheel(path, add=[stray])) == [f"{stray} is in the wheel, but not in keras_reg/"]


def sdist(path, names):
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            text = METADATA.encode() if name == "PKG-INFO" else b""
            member = tarfile.TarInfo(f"keras_reg-{release.version()}/{name}")
            member.size = len(text)
            file.addfile(member, io.BytesIO(text))
    return path


def test_what_an_sdist_must_hold(tmp_path, monkeypatch):
    complete = release.package() | release.FILES_AT_THE_TOP | {"tests/release.py"}
    path = tmp_path / "a.tar.gz"
    monkeypatch.setattr(release, "files_of_git", lambda: complete)
    assert release.faults_of_sdist(sdist(path, complete)) == []
    assert release.faults_of_sdist(sdist(path, complete - {"README.md"})) == ["README.md is missing in the sdist"]
    for stray in ("notes.txt", "runs/a.json", "tests/__pycache__/a.pyc", "docs/not_under_version_control.md"):
        assert release.faults_of_sdist(sdist(path, complete | {stray})) == [f"{stray} does not belong into the sdist"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (f"Version: {release.version()}", "Version: 9.9", "Version is 9.9"),
        ("Apache-2.0", "MIT", "License-Expression is MIT"),
        ("License-File: LICENSE\n", "", "License-File is missing"),
        ("numpy>=1.26", "scipy>=1.26", "it needs ['keras', 'scipy']"),
        ("Typing :: Typed", "Topic :: Education", "Typing :: Typed is missing"),
        ("Provides-Extra: torch\n", "", "the extras are incomplete"),
        ("text/markdown", "text/x-rst", "the description is not Markdown"),
        ("https://example.org", "docs/start.md", "the description links to ['docs/start.md']"),
        ("[a link](https://example.org)", "![a picture](a.png)", "the description links to ['a.png']"),
    ],
)
def test_what_metadata_must_state(old, new, fault):
    assert release.faults_of_metadata(METADATA) == []
    found = release.faults_of_metadata(METADATA.replace(old, new))
    assert len(found) == 1 and found[0].startswith(fault)


@pytest.fixture
def description(monkeypatch):
    """`description` of docs/_pypi_description.py, without hatchling, which only a build has."""
    hatchling = types.ModuleType("hatchling.metadata.plugin.interface")
    hatchling.MetadataHookInterface = object
    for name in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, hatchling.__name__, hatchling)
    spec = importlib.util.spec_from_file_location("pypi_description", ROOT / "docs" / "_pypi_description.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.description


def test_links_of_the_readme_lead_somewhere(description):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", readme, flags=re.DOTALL)
    targets = [name for name in re.findall(r"\]\((?!\w+:|#)([^)#]+)", text)]
    assert len(targets) > 5 and not [name for name in targets if not (ROOT / name).is_file()]
    with_address = description(readme, "https://example.org/files/")
    assert re.findall(r"\]\((?!#)([^)#]+)", re.sub(r"```.*?```", "", with_address, flags=re.DOTALL)) == [
        name if ":" in name else f"https://example.org/files/{name}" for name in re.findall(r"\]\((?!#)([^)#]+)", text)
    ]
    without = description(readme, None)
    assert "](" not in re.sub(r"\]\(https:[^)]+\)", "", re.sub(r"```.*?```", "", without, flags=re.DOTALL))
    assert re.findall(r"```.*?```", without, re.DOTALL) == re.findall(r"```.*?```", readme, re.DOTALL)


def test_a_description_without_links_and_pictures(description):
    text = "A [link](docs/a.md), one [elsewhere](https://a.org).\n\n![A picture](b.png)\n\n*What it shows.*\n"
    code = "```\n[a](b)\n```\n"
    assert description(text + code, None) == "A link, one [elsewhere](https://a.org).\n\n" + code
