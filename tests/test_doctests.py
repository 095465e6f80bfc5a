"""Every example in a public docstring runs on the backend of this run, and says what it says."""

import doctest
import inspect

import keras
import numpy as np
import pytest
from harness import public_objects

import keras_reg

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
EXAMPLE_LINES = 6  # of input; an example shows one property

# As in Keras' own docstrings, these names are there without being imported.
NAMES = {"keras": keras, "ops": keras.ops, "np": np, "keras_reg": keras_reg}


def examples_of(name, public):
    """The doctests of an object and of its public methods and properties."""
    found = doctest.DocTestFinder(exclude_empty=True, recurse=inspect.isclass(public)).find(
        public, name, globs=dict(NAMES)
    )
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", public_objects())
def test_examples(name):
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    report = []
    for test in examples_of(name, public_objects()[name]):
        runner.run(test, out=report.append)
    assert not runner.failures, "\n" + "".join(report)


@pytest.mark.once
@pytest.mark.parametrize("name", public_objects())
def test_docstring(name):
    """What every public class and function tells: its arguments, all of them, and a short example."""
    public = public_objects()[name]
    text = inspect.getdoc(public) or ""
    assert text.strip(), "no docstring"
    parameters = [
        parameter
        for parameter in inspect.signature(public).parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    missing = [p.name for p in parameters if p.name not in ("name", "dtype") and f"{p.name}" not in arguments(text)]
    assert not missing, f"not described under Args: {missing}"
    own = doctest.DocTestParser().get_examples(text)
    assert own, "no Example:"
    lines = sum(len(example.source.splitlines()) for example in own)
    assert lines <= EXAMPLE_LINES, f"the example has {lines} lines"


def arguments(text):
    """The names described under `Args:` and `Call arguments:` of a Google style docstring."""
    names, inside = set(), False
    for line in text.splitlines():
        if line and not line[0].isspace():
            inside = line.strip() in ("Args:", "Call arguments:")
        elif inside and line.startswith("    ") and not line.startswith("     ") and ":" in line:
            names |= {name.strip(" `*") for name in line.split(":")[0].split(",")}
    return names
