"""Checks a wheel and an sdist, and runs the README's code with what is installed. `make release-check` calls it.

python tests/release.py dist [OTHER_WHEEL]    # what is in them; the second wheel must hold the same
python tests/release.py README.md             # run its code, where only this package and a backend are installed
"""

import contextlib
import email
import importlib.metadata
import importlib.util
import io
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import types
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
AT_THE_TOP = {"keras_reg", "tests", "examples", "docs", ".ci"}
FILES_AT_THE_TOP = {
    "README.md", "LICENSE", "pyproject.toml", "mkdocs.yml", "Makefile", "PKG-INFO", ".gitignore",
}  # fmt: skip
NEVER = re.compile(r"(^|/)(__pycache__|\.ipynb_checkpoints|\.[a-z]+_cache|runs|site|dist|build|\.venv)(/|$)|\.pyc$")


def version():
    """The one in the source, which is the only place that states it."""
    source = (ROOT / "keras_reg" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', source, re.M)[1]


def package():
    """The files of the package in this checkout."""
    files = (path.relative_to(ROOT).as_posix() for path in (ROOT / "keras_reg").rglob("*") if path.is_file())
    return {name for name in files if not NEVER.search(name)}


def faults_of_wheel(path):
    """What is wrong with a wheel, one line each."""
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    info = f"keras_reg-{version()}.dist-info/"
    about = {name.removeprefix(info) for name in contents if name.startswith(info)}
    code = {name for name in contents if not name.startswith(info)}
    faults = [f"{name} is in the wheel, but not in keras_reg/" for name in sorted(code - package())]
    faults += [f"{name} is missing in the wheel" for name in sorted(package() - code)]
    expected = {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE"}
    if about != expected:
        return [*faults, f"{info} has {sorted(about)} instead of {sorted(expected)}"]
    return faults + faults_of_metadata(contents[info + "METADATA"].decode())


def faults_of_sdist(path):
    """What is wrong with an sdist, one line each."""
    with tarfile.open(path) as file:
        top = f"keras_reg-{version()}/"
        names = {member.name.removeprefix(top) for member in file if member.isfile()}
        about = file.extractfile(top + "PKG-INFO").read().decode() if "PKG-INFO" in names else ""
    faults = [f"{name} is missing in the sdist" for name in sorted((package() | FILES_AT_THE_TOP) - names)]
    strange = {name for name in names if name.split("/")[0] not in AT_THE_TOP | FILES_AT_THE_TOP or NEVER.search(name)}
    tracked = files_of_git() or names
    strange |= {name for name in names if name not in tracked | {"PKG-INFO"}}
    faults += [f"{name} does not belong into the sdist" for name in sorted(strange)]
    return faults + faults_of_metadata(about)


def files_of_git():
    """The files under version control, or an empty set where there is none."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    return set(listed.stdout.split("\n")) - {""} if listed.returncode == 0 else set()


def faults_of_metadata(text):
    """What is wrong with METADATA or PKG-INFO, one line each. `twine check` renders the description."""
    found = email.message_from_string(text)
    needed = {re.split(r"[^\w-]", name)[0] for name in found.get_all("Requires-Dist", []) if "extra ==" not in name}
    checks = {
        f"Name is {found['Name']}": found["Name"] == "keras-reg",
        f"Version is {found['Version']}, in the source {version()}": found["Version"] == version(),
        f"License-Expression is {found['License-Expression']}": found["License-Expression"] == "Apache-2.0",
        "License-File is missing": found["License-File"] == "LICENSE",
        "Requires-Python is missing": bool(found["Requires-Python"]),
        f"it needs {sorted(needed)}": needed == {"keras", "numpy"},
        "the extras are incomplete": {"tensorflow", "jax", "torch"} <= set(found.get_all("Provides-Extra", [])),
        "Typing :: Typed is missing": "Typing :: Typed" in found.get_all("Classifier", []),
        "the description is not Markdown": (found["Description-Content-Type"] or "").startswith("text/markdown"),
    }
    description = re.sub(r"```.*?```", "", found.get_payload(), flags=re.DOTALL)
    relative = re.findall(r"\]\((?!\w+:|#)([^)]+)\)", description)
    checks["the description is empty"] = "# keras_reg" in description
    checks[f"the description links to {relative}, which PyPI does not have"] = not relative
    return [fault for fault, holds in checks.items() if not holds]


def check(folder, other=None):
    """Prints what is wrong with the files in `folder`, and returns whether nothing is."""
    (wheel,), (sdist,) = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    faults = [f"{wheel.name}: {fault}" for fault in faults_of_wheel(wheel)]
    faults += [f"{sdist.name}: {fault}" for fault in faults_of_sdist(sdist)]
    if other and contents_of(other) != contents_of(wheel):
        faults.append(f"{wheel.name}: the wheel from the sdist differs from the one from the checkout")
    print("\n".join(faults) or f"{wheel.name} and {sdist.name} are complete")
    return not faults


def contents_of(wheel):
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


def run_page(page):
    """Runs the code of a page. Without TensorFlow, the blocks that need its datasets are left out."""
    import docs_names
    import keras

    import keras_reg

    assert importlib.metadata.version("keras-reg") == keras_reg.__version__ == version(), keras_reg.__version__
    assert "site-packages" in pathlib.Path(keras_reg.__file__).parts, keras_reg.__file__
    docs_names.shorten(types.SimpleNamespace(setattr=setattr))
    blocks = docs_names.blocks(page.read_text(encoding="utf-8"))
    runs = [block for block in blocks if "dataset" not in block[1] or importlib.util.find_spec("tensorflow")]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        docs_names.run(runs, page.name)
    backend = f"{keras.backend.backend()}, Keras {keras.__version__}"
    print(f"{page.name}: {len(runs)} of {len(blocks)} blocks of code run on {backend}")


if __name__ == "__main__":
    first, *rest = map(pathlib.Path, sys.argv[1:])
    if first.suffix == ".md":
        run_page(first.resolve())
    else:
        sys.exit(not check(first, *rest))
