"""What the installed distribution holds: the package, its types' marker, its licence, and nothing else."""

import importlib.metadata
import os
import pathlib
import re

import harness
import pytest

import keras_reg

INSTALLED = os.environ.get("KERAS_REG_TEST_INSTALLED") == "1"
DISTRIBUTION = importlib.metadata.distribution("keras-reg")


def test_version():
    assert DISTRIBUTION.version == keras_reg.__version__


def test_keras_and_numpy_are_all_it_needs():
    """The framework is the user's choice; whatever else a class needs is an extra."""
    needed = [requirement for requirement in DISTRIBUTION.requires if "extra ==" not in requirement]
    assert {re.split(r"[^\w-]", requirement)[0] for requirement in needed} == {"keras", "numpy"}


def test_licence_and_types():
    assert DISTRIBUTION.metadata["License-Expression"] == "Apache-2.0"
    assert pathlib.Path(keras_reg.__file__).with_name("py.typed").exists()


@pytest.mark.skipif(not INSTALLED, reason="not testing an installed wheel; `make test` does")
def test_the_wheel_is_what_is_tested():
    here = pathlib.Path(keras_reg.__file__).resolve()
    assert "site-packages" in here.parts
    assert harness.ROOT / "keras_reg" not in here.parents


@pytest.mark.skipif(not INSTALLED, reason="not testing an installed wheel; `make test` does")
def test_the_wheel_holds_the_package_alone():
    files = [file for file in DISTRIBUTION.files if "__pycache__" not in file.parts]
    assert {file.parts[0] for file in files} == {"keras_reg", f"keras_reg-{DISTRIBUTION.version}.dist-info"}
    assert any(file.name == "LICENSE" for file in files)
    in_checkout = {path.relative_to(harness.ROOT).as_posix() for path in (harness.ROOT / "keras_reg").rglob("*.py")}
    assert {file.as_posix() for file in files if file.suffix == ".py"} == in_checkout
