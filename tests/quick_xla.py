"""Sets XLA up to spend less time on compilation, which is most of a run on JAX and a part of one on TensorFlow.

JAX's own tests turn optimizations off in the same way. With JAX_DISABLE_MOST_OPTIMIZATIONS=0 the tests compile as users
do on every backend, with optimizations and XLA's emitters for fusions. `.ci/run` repeats the tests of compiled code on
JAX in this way.
"""

import importlib.util
import mmap
import os
import pathlib

EMITTERS = {"xla_cpu_use_fusion_emitters": "false"}
OPTIMIZATIONS = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": "true"}


def set_up(backend):
    """Must be called before the backend is imported."""
    if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "0":
        return
    given = os.environ.get("XLA_FLAGS", "")
    flags = EMITTERS if backend == "jax" else {**OPTIMIZATIONS, **EMITTERS}  # JAX turns optimizations off itself
    own = [f"--{flag}={value}" for flag, value in flags.items() if flag not in given and is_known(flag)]
    os.environ["XLA_FLAGS"] = " ".join([*own, given]).strip()


def is_known(flag):
    """Whether TensorFlow and jaxlib have the flag. XLA ends the process if it does not, and does not list its flags.

    A run may use both: tf.data on JAX, and processes that load a model into another backend.
    """
    packages = [importlib.util.find_spec(package) for package in ("jaxlib", "tensorflow")]
    return all(_contains(pathlib.Path(package.origin).parent, flag.encode()) for package in packages if package)


def _contains(folder, name):
    for library in folder.glob("*.so*"):
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(name) >= 0:
                return True
    return False
