"""Tests import only what is installed: on TensorFlow alone there is no PyTorch. Read from the syntax trees."""

import ast
import functools
import re
import sys
import tomllib

import harness
import pytest

pytestmark = pytest.mark.once

# Framework -> the backends whose tests may import it: TensorFlow is installed for every backend, as tf.data is.
BACKENDS = {
    "tensorflow": {"tensorflow", "jax", "torch"},
    "jax": {"jax", "torch"},
    "jaxlib": {"jax", "torch"},
    "flax": set(),
    "torch": {"torch"},
    "torchvision": {"torch"},
}
FILES = [path for path in sorted(harness.TESTS.rglob("*.py")) if path.name != "test_installed_frameworks.py"]
NAMES = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "pytest-xdist": "xdist",
    "tensorflow-datasets": "tensorflow_datasets",
}


@functools.cache
def installed():
    """Every module that a test may import on each backend: Python's, this project's, and those of `[test]`."""
    project = tomllib.loads((harness.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    packages = [re.match(r"[\w-]+", requirement).group() for requirement in required]
    ours = [path.stem for folder in ("tests", "examples") for path in (harness.ROOT / folder).rglob("*.py")]
    folders = [path.name for path in harness.TESTS.iterdir() if path.is_dir()]
    return {*sys.stdlib_module_names, "keras_reg", *ours, *folders, *(NAMES.get(name, name) for name in packages)}


def imports(tree):
    """[(node, name of a module)], also of the code in strings, which runs in another process."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module
        elif isinstance(node, ast.Call) and called(node) == "import_module" and isinstance(node.args[0], ast.Constant):
            yield node, node.args[0].value
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for line in re.findall(r"^\s*(?:import|from) (\w[\w., ]*)", node.value, re.MULTILINE):
                found = (name.split()[0] for name in line.split(" import ")[0].split(",") if name.strip())
                yield from ((node, name) for name in found if name.split(".")[0] in BACKENDS)


def called(call):
    """The last name of the function: `import_module` for `importlib.import_module(...)`."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def holds_on(condition, backends):
    """Whether `condition` says `... == "jax"`, with one of `backends`, perhaps `and` more."""
    if isinstance(condition, ast.BoolOp) and isinstance(condition.op, ast.And):
        return any(holds_on(value, backends) for value in condition.values)
    if not isinstance(condition, ast.Compare) or not isinstance(condition.ops[0], ast.Eq):
        return False
    return getattr(condition.comparators[0], "value", None) in backends


def is_mark(node, backends):
    """Whether `node` is `only("jax")`, with no other backends than `backends`."""
    if not isinstance(node, ast.Call) or called(node) != "only":
        return False
    return {ast.literal_eval(argument) for argument in node.args} <= backends


def is_guarded(node, tree, parents, framework):
    """Whether `node` runs only where `framework` is installed: by a mark, an `if`, or the name of a helper."""
    backends = BACKENDS[framework]
    helpers = {name for name, run in BACKENDS.items() if run and run <= backends}
    if any(is_mark(top.value, backends) for top in tree.body if ast.unparse(top).startswith("pytestmark")):
        return True
    while node in parents:
        inner, node = node, parents[node]
        if isinstance(node, (ast.If, ast.IfExp)) and holds_on(node.test, backends):
            return inner in node.body if isinstance(node, ast.If) else inner is node.body
        if isinstance(node, ast.FunctionDef):
            if not node.name.startswith("test_") and helpers & set(node.name.split("_")):
                return True
            if any(is_mark(mark, backends) for mark in node.decorator_list):
                return True
    return False


def unguarded(source):
    """[(line, module)] that the tests of some backend cannot import."""
    tree, known = ast.parse(source), installed()
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node, name in imports(tree):
        module = name.split(".")[0]
        if len(BACKENDS.get(module, "")) == len(BACKENDS["tensorflow"]):
            continue
        if not is_guarded(node, tree, parents, module) if module in BACKENDS else module not in known:
            yield node.lineno, name


def test_only_what_is_installed_is_imported():
    found = {str(path.relative_to(harness.TESTS)): list(unguarded(path.read_text(encoding="utf-8"))) for path in FILES}
    found = {path: lines for path, lines in found.items() if lines}
    assert not found, f'{found}: not installed for every backend. Mark the test `only("torch")`, or `importorskip`.'


@pytest.mark.parametrize(
    ("source", "is_fine"),
    [
        ("import torch", False),
        ("import pandas", False),
        ("import numpy, PIL.Image, sklearn.datasets, tensorflow", True),
        ("def test_torch():\n    from torch import nn", False),
        ("def _torch_gradients():\n    import torch", True),
        ("@only('torch')\ndef test():\n    import torchvision", True),
        ("@only('jax', 'torch')\ndef test():\n    import torch", False),
        ("@only('jax', 'torch')\ndef test():\n    import jax", True),
        ("pytestmark = only('torch')\nimport torch", True),
        ("if BACKEND == 'torch' and wanted:\n    import torch", True),
        ("if BACKEND != 'torch':\n    import torch", False),
        ("if BACKEND == 'torch':\n    pass\nelse:\n    import jax.numpy as np", False),
        ("found = import_module('torch') if BACKEND == 'torch' else None", True),
        ("found = importlib.import_module('jax.numpy')", False),
        ("def test():\n    torch = pytest.importorskip('torch')", True),
        ("code = '''\n    import keras, jax\n'''", False),
        ("import flax", False),
    ],
)
def test_the_guard_itself(source, is_fine):
    assert (not list(unguarded(source))) == is_fine
