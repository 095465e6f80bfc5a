"""What `import keras_reg` costs, counted in modules (seconds are the machine's)."""

import json

import pytest
from harness import run_in_fresh_process

# Never without being asked: other frameworks than Keras' own, and what only one class or an example needs.
HEAVY = {
    "tensorflow", "jax", "torch", "keras_cv", "keras_hub", "tensorflow_datasets", "tensorboard", "tensorboardX",
    "matplotlib", "scipy", "sklearn", "pandas", "PIL", "grain", "optuna", "torchvision",
}  # fmt: skip
LIMIT = 25  # modules beyond Keras' own that are new, our own not counted


@pytest.fixture(scope="module")
def new_modules():
    code = """
    import json, sys
    import keras
    before = set(sys.modules)
    import keras_reg
    print(json.dumps(sorted(set(sys.modules) - before)))
    """
    return json.loads(run_in_fresh_process(code))


def test_import_brings_nothing_heavy(new_modules):
    assert not HEAVY & {name.split(".")[0] for name in new_modules}


def test_import_adds_few_modules(new_modules):
    foreign = [name for name in new_modules if name.split(".")[0] != "keras_reg"]
    assert len(foreign) <= LIMIT, foreign


def test_every_namespace_is_imported_at_once(new_modules):
    """A saved model loads only if its classes are registered, and `import keras_reg` is all that a user writes."""
    for namespace in ("layers", "losses", "callbacks", "training", "transfer", "surgery"):
        assert f"keras_reg.{namespace}" in new_modules
