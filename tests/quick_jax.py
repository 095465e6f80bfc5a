"""Sets JAX up to spend half as long on compilation, which is most of a run.

JAX's own tests turn optimizations off in the same way. With JAX_DISABLE_MOST_OPTIMIZATIONS=0 the tests compile as users
do, with optimizations and XLA's emitters for fusions. `.ci/run` repeats the tests of compiled code in this way.
"""

import importlib.util
import mmap
import os
import pathlib

FLAG = "xla_cpu_use_fusion_emitters"


def set_up():
    """Must be called before JAX is imported."""
    if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "0":
        return
    # The lines of Python that belong to each operation are not written into programs.
    os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
    os.environ.setdefault("JAX_INCLUDE_FULL_TRACEBACKS_IN_LOCATIONS", "0")
    given = os.environ.get("XLA_FLAGS", "")
    if FLAG not in given and is_known():
        os.environ["XLA_FLAGS"] = f"--{FLAG}=false {given}".strip()


def is_known():
    """Whether jaxlib has the flag: XLA ends the process if it does not, and does not list its flags."""
    folder = pathlib.Path(importlib.util.find_spec("jaxlib").origin).parent
    for library in folder.glob("*.so"):
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(FLAG.encode()) >= 0:
                return True
    return False
