"""The changelog knows every public name, and no name that does not exist."""

import importlib
import inspect
import re

import harness
import keras
import pytest
from harness import public_objects

import keras_reg

TEXT = (harness.ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
RENAMED = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")][2:]
NOTES = "\n".join(line for line in TEXT.splitlines() if not line.startswith("|"))
SHORT = {name.rsplit(".", 1)[1]: made for name, made in public_objects().items()}
ELSEWHERE = {"DataLoader", "True", "False", "None"}

pytestmark = pytest.mark.once


def code(text):
    return re.findall(r"`([^`]+)`", text)


def arguments():
    found = {name for made in public_objects().values() for name in inspect.signature(made).parameters}
    members = [made.fit for made in public_objects().values() if hasattr(made, "fit")]
    return found | {name for member in members for name in inspect.signature(member).parameters}


def exists(name):
    """Whether a dotted name leads to something, and a single word is public here or in Keras."""
    if name.startswith(("keras.", "keras_reg.")):
        module, *rest = name.split(".")
        made = importlib.import_module(module)
        return all((made := getattr(made, part, None)) is not None for part in rest)
    if "." in name:
        return exists(f"keras_reg.{name}")
    public = {*SHORT, *keras_reg.__all__, *ELSEWHERE}
    places = (keras, keras.layers, keras.callbacks, keras.optimizers)
    return name in public or any(hasattr(place, name) for place in places)


def test_the_version_stands_in_one_place():
    assert re.findall(r"^## ([\w.]+)", TEXT, re.M)[0] == keras_reg.__version__
    project = (harness.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^dynamic = \[.*"version"', project, re.M) and not re.search(r"^version *=", project, re.M)


@pytest.mark.parametrize("name", public_objects())
def test_every_public_name_is_in_the_changelog(name):
    spans = " ".join(code(NOTES))
    assert re.search(rf"\b{name.rsplit('.', 1)[1]}\b", spans), f"`{name}` belongs in docs/changelog.md"


def test_every_name_in_the_changelog_exists():
    """Classes by their spelling, dotted names, and the arguments that a name is called with."""
    checked = 0
    for span in code(NOTES) + [found for row in RENAMED for found in code(row[1])]:
        for name in re.findall(r"\b(?:keras(?:_reg)?\.)?(?:[a-z_]+\.)*[A-Z]\w*[a-z]\w*\b|\bkeras_reg\.[\w.]+", span):
            assert exists(name), span
            checked += 1
        for argument in re.findall(r"\b(\w+)=", span):
            assert argument in arguments(), span
            checked += 1
    assert checked > 80


def test_old_names_are_gone():
    for old, new in RENAMED:
        for span in code(old):
            name, _, called = span.partition("(")
            made = SHORT.get(name.split(".")[-1])
            if made is None:
                continue  # no such name any more
            function = getattr(made, name.split(".")[-1], made)
            left = set(re.findall(r"(\w+)=", called)) & set(inspect.signature(function).parameters)
            assert all(f"{argument}=" in new for argument in left), span
    assert not hasattr(keras_reg.training, "AugmentedModel")
