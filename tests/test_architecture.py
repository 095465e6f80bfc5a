"""The house holds: who may import whom, who may know frameworks, what is public. Read from the syntax trees."""

import ast
import importlib
import inspect
import pathlib
import re

import harness
import pytest

pytestmark = pytest.mark.once
PACKAGE = harness.ROOT / "keras_reg"
FRAMEWORKS = {"tensorflow", "tf_keras", "jax", "jaxlib", "flax", "torch", "torchvision"}
# What stands below every namespace.
BASE = {
    "_typing",
    "_validation",
    "_backend",
    "_dtypes",
    "_strength",
    "_storage",
    "_random_state",
    "_optimizers",
    "_messages",
    "_renamed",
    "_class_weight",
    "_outputs",
    "_datasets",
    "_inner_layers",
    "_masks",
    "_moving_statistics",
    "_direction",
    "_overrides",
}

# Part of the package -> the parts it may import. A part is a namespace or a file beside them.
ARROWS = {
    "_validation": set(),
    "_dtypes": set(),
    "_backend": {"_validation"},
    "_strength": {"_validation", "_backend"},
    "_typing": {"_strength"},
    "_storage": set(),
    "_messages": set(),
    "_renamed": {"_validation"},
    "_class_weight": {"_validation", "_outputs"},
    "_outputs": {"_validation"},
    "_random_state": {"_validation", "_backend"},
    "_optimizers": set(),
    "_datasets": set(),
    "_inner_layers": set(),
    "_masks": {"_inner_layers"},
    "_moving_statistics": {"_validation", "_backend", "_inner_layers", "_datasets"},
    "_direction": {"_validation"},
    "_overrides": {"_validation"},
    "layers": BASE,
    "losses": BASE,
    "callbacks": BASE | {"training"},
    "training": BASE | {"layers", "losses"},
    "transfer": BASE | {"layers", "losses", "callbacks", "training", "surgery"},
    "metrics": BASE,
    "inference": BASE | {"layers", "losses", "metrics", "training"},
    "surgery": BASE | {"layers", "losses", "callbacks", "training"},
    "__init__": BASE | {"layers", "losses", "callbacks", "training", "transfer", "surgery", "inference", "metrics"},
}
# These look at the other namespaces as a user does: public names alone.
PUBLIC_ONLY = {"transfer", "surgery"}


# The files of the backend room from the ground up: each imports from those before it alone.
FLOORS_OF_BACKEND = [
    "_current", "_gradients", "_workers", "_operations", "_recomputing", "_place", "_philox", "_tensorflow_ops",
    "_torch_memory", "_torch_ops", "_torch_routes", "_torch_sampling", "_sending", "_jax_switch", "_jax", "_tensorflow",
    "_numpy", "_torch", "_tensors", "_native", "_random", "_process_state", "_programs", "_inner_steps", "_step",
    "_train_functions", "_crossentropy", "_statistics", "_averages",
]  # fmt: skip


def python_files(folder):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path):
    return str(path.relative_to(harness.ROOT))


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def part_of(module):
    """`keras_reg.layers._mix_up` and `keras_reg.layers` are of the part `layers`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(tree):
    """Every dotted name that the tree imports: `from a.b import c` gives `a.b.c`; by string too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute in this package"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called.endswith("import_module") or called == "__import__":
                yield str(node.args[0].value)


def dotted_names(tree):
    """Every dotted name that is read, `a.b.c` and then `a.b` in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def docstring_nodes(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            yield node.body[0].value


def private_names(tree):
    """Names below `keras_reg` with a leading underscore that the tree imports or reads, dunder names apart."""
    for name in [*imported(tree), *dotted_names(tree)]:
        first, *rest = name.split(".")
        if first == "keras_reg" and any(re.match(r"_(?!_)", part) for part in rest):
            yield name


PACKAGE_FILES = python_files(PACKAGE)
OUTSIDE_FILES = [path for folder in ("tests", "examples") for path in python_files(harness.ROOT / folder)]
# These are about what stands inside.
INSIDE = {"contributing.md", "architecture.md"}
DOCS = [path for path in sorted((harness.ROOT / "docs").rglob("*.md")) if path.name not in INSIDE]
DOCS.append(harness.ROOT / "README.md")


@pytest.mark.parametrize("path", PACKAGE_FILES + OUTSIDE_FILES, ids=name_of)
def test_only_public_keras(path):
    # In imports, strings and comments alike; written so that this file does not find itself.
    assert not re.findall(r"\bkeras[.](?:src|_tf_keras|__internal__)\b", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [p for p in PACKAGE_FILES if p.parent != PACKAGE / "_backend"], ids=name_of)
def test_only_the_backend_folder_knows_frameworks(path):
    tree = tree_of(path)
    found = [name for name in imported(tree) if name.split(".")[0] in FRAMEWORKS]
    assert not found, f"imports {found}: that belongs in keras_reg/_backend"
    prose = {id(node) for node in docstring_nodes(tree)}
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]
    found = [text for text in strings if text.split(".")[0] in FRAMEWORKS]
    assert not found, f"tells frameworks apart by {found}: that belongs in keras_reg/_backend"


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=name_of)
def test_arrows_point_one_way(path):
    module = ".".join(path.relative_to(harness.ROOT).with_suffix("").parts)
    here = "__init__" if path == PACKAGE / "__init__.py" else part_of(module)
    assert here in ARROWS, f"{here} is a new part of the package: say in ARROWS what it may import"
    for name in imported(tree_of(path)):
        if name.split(".")[0] != "keras_reg":
            continue
        there = part_of(name)
        assert there != "__init__", f"{name}: import what you need by its own name"
        if there in ARROWS and there != here:
            assert there in ARROWS[here], f"{here} must not import {name}"
        if here in PUBLIC_ONLY and there not in BASE and there != here:
            assert not re.search(r"\._", name), f"{here} takes public names only, not {name}"


@pytest.mark.parametrize("path", [p for p in PACKAGE_FILES if p.parent != PACKAGE / "_backend"], ids=name_of)
def test_the_backend_folder_has_one_door(path):
    """Other files import from `keras_reg._backend`, which lists what it offers, and not from the files in it."""
    found = [name for name in imported(tree_of(path)) if re.match(r"keras_reg\._backend\._", name)]
    assert not found, f"imports {found}: re-export it in keras_reg/_backend/__init__.py"


def test_the_files_of_the_backend_stand_on_one_another():
    paths = [path for path in PACKAGE_FILES if path.parent == PACKAGE / "_backend" and path.stem != "__init__"]
    assert sorted(path.stem for path in paths) == sorted(FLOORS_OF_BACKEND)
    for path in paths:
        below = FLOORS_OF_BACKEND[: FLOORS_OF_BACKEND.index(path.stem)]
        ours = [name.split(".")[2] for name in imported(tree_of(path)) if name.startswith("keras_reg._backend.")]
        assert set(ours) <= set(below), f"{path.stem} imports {sorted(set(ours) - set(below))}"


@pytest.mark.parametrize("path", OUTSIDE_FILES, ids=name_of)
def test_tests_and_examples_use_public_names_only(path):
    assert not list(private_names(tree_of(path)))


@pytest.mark.parametrize("path", DOCS, ids=name_of)
def test_docs_use_public_names_only(path):
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"keras_reg(?:\.\w+)*\._(?!_)\w+", text)
    assert not re.findall(r"from keras_reg[\w.]* import _\w+", text)


def test_every_namespace_states_what_is_public():
    for name, namespace in harness.public_namespaces().items():
        assert isinstance(namespace.__all__, list), name
        assert len(set(namespace.__all__)) == len(namespace.__all__), name
        for public in namespace.__all__:
            assert hasattr(namespace, public), f"{name}.{public}"
            assert not public.startswith("_"), f"{name}.{public}"


@pytest.mark.parametrize("name", [name for name, public in harness.public_objects().items() if inspect.isclass(public)])
def test_one_public_class_per_underscore_file(name):
    """keras_reg.layers.MixUp lives in keras_reg/layers/_mix_up.py."""
    public = harness.public_objects()[name]
    namespace, class_name = name.rsplit(".", 1)
    file = pathlib.Path(inspect.getfile(public))
    assert file.stem.startswith("_") and public.__module__.startswith(namespace + "._")
    assert file.stem.replace("_", "") == class_name.lower()


# The page about it.


def test_the_drawing_is_current(monkeypatch):
    """If this fails: `python examples/draw_architecture.py`."""
    monkeypatch.syspath_prepend(str(harness.ROOT / "examples"))
    drawing = importlib.import_module("draw_architecture")
    assert drawing.OUT.read_text(encoding="utf-8") == drawing.render()


def test_the_page_names_every_room_and_only_files_that_exist():
    page = (harness.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:keras_reg|tests|examples|docs)/[\w/.]*)`", page))
    assert {path for path in named if not (harness.ROOT / path).exists()} == set()
    rooms = {path.parent for path in PACKAGE.rglob("__init__.py")} - {PACKAGE}
    assert {room.name for room in rooms if f"{room.name}/`" not in page} == set()
