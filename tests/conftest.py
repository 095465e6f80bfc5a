"""Settings of the whole test run, and what every test starts from."""

import atexit
import gc
import os
import pathlib
import shutil
import tempfile

# The frameworks import a million objects that are never garbage. Python would look through them again and again, which
# takes a sixth of a run.
gc.disable()

# Before Keras is imported: a run reads no configuration of the person who starts it, and stays quiet.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if "KERAS_HOME" not in os.environ:
    os.environ["KERAS_HOME"] = tempfile.mkdtemp(prefix="keras_reg_home_")
    atexit.register(shutil.rmtree, os.environ["KERAS_HOME"], ignore_errors=True)
    # What takes one worker or fresh process long to compile, the others of this run need not compile again.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.environ["KERAS_HOME"] + "/jax")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.environ["KERAS_HOME"] + "/torch")
if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker for each core. If each computed with as many threads as there are cores, the threads would wait
    # for each other, which takes two fifths of the time of a run on PyTorch.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # PyTorch's compiler has loaded what was not written to its end: each worker has a folder and one thread for it.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] += "/" + os.environ["PYTEST_XDIST_WORKER"]
if os.environ["KERAS_BACKEND"] == "jax":
    import quick_jax

    quick_jax.set_up()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras  # noqa: E402
import pytest  # noqa: E402

import keras_reg  # noqa: E402

if keras.backend.backend() == "tensorflow":
    import quick_tensorflow

    quick_tensorflow.set_up()

# `ATEN_CPU_CAPABILITY` limits PyTorch's own kernels, but not its compiler, which must use vectors of the same length.
VECTOR_BITS = {"avx2": 256, "default": 1}.get(os.environ.get("ATEN_CPU_CAPABILITY"))
if keras.backend.backend() == "torch" and VECTOR_BITS:
    import torch._inductor.config

    torch._inductor.config.cpp.simdlen = VECTOR_BITS


# The files that take longest. They run first, so that no worker is left alone with one of them at the end.
LONGEST = [
    "test_odd_inputs", "test_contract", "test_docs", "test_regularized_model", "test_gradient_histograms",
    "test_regularize", "test_gradient_histograms_and_the_model", "test_as_network", "test_transfer_learner",
    "test_in_models", "test_one_pass", "test_benchmarks", "test_feature_cache", "test_first_day",
]  # fmt: skip


def pytest_collection_modifyitems(items):
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)
    gc.enable()


def pytest_report_header():
    where = pathlib.Path(keras_reg.__file__).parent
    return f"keras {keras.__version__} on {keras.backend.backend()}, keras_reg {keras_reg.__version__} from {where}"


@pytest.fixture(autouse=True)
def fresh_settings():
    """Every test starts from Keras' own settings and one seed, and leaves none behind."""
    keras.utils.set_random_seed(20250)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.enable_interactive_logging()
    keras.config.enable_traceback_filtering()


@pytest.fixture(autouse=True, scope="module")
def free_memory():
    """Models are garbage that refers to itself. JAX keeps all programs that it has compiled: gigabytes in a whole run.

    Hardly one of them serves the next file. TensorFlow keeps graphs for good: no need to look through them again.
    """
    yield
    gc.collect()
    gc.freeze()
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()


@pytest.fixture(scope="module")
def optimized_graphs():
    """TensorFlow optimizes graphs, as it does for users. Most tests do without (tests/quick_tensorflow.py)."""
    if keras.backend.backend() == "tensorflow":
        quick_tensorflow.optimize_graphs(True)
        yield
        quick_tensorflow.optimize_graphs(False)
    else:
        yield


@pytest.fixture
def set_dtype_policy():
    """`set_dtype_policy("mixed_float16")` for this test alone (`fresh_settings` puts it back)."""
    return keras.config.set_dtype_policy


@pytest.fixture(params=["float32", "mixed_float16", "bfloat16"])
def dtype_policy(request):
    """Runs the test under each dtype policy; its value is the policy's name."""
    keras.config.set_dtype_policy(request.param)
    return request.param
