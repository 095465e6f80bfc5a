"""Every part of a training step in every setting: the result is that of the plain setting, or a clear error."""

import functools
import os
import shutil

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, fewer, only, raises_received, run_in_fresh_process
from training.parts_of_steps import PARTS, REFUSED, X, Y, augments, compiled, fitted, names_of_terms, network, weights

from keras_reg import training

pytestmark = pytest.mark.filterwarnings("ignore:.*no gradient.*")

# What is in "all" counts as slow by itself where it is compiled, but for two settings.
QUICK = ["all", "own loss", "own train step"]


def each_part(setting):
    """Calls the test for each part. What is refused must raise an error that says so."""

    def decorate(test):
        @pytest.mark.parametrize("part", PARTS if setting in ("fit", "mixed_float16") else fewer(PARTS, QUICK))
        @functools.wraps(test)
        def run(part, **fixtures):
            if (part, setting) not in REFUSED:
                return test(part, **fixtures)
            with raises_received(REFUSED[part, setting]):
                test(part, **fixtures)

        return run

    return decorate


@functools.cache
def plain(part):
    """The logs and the weights after four ordinary steps."""
    return fitted(compiled(part))


def assert_all_close(found, expected, rtol=1e-3, atol=5e-4):
    """The direction of `VirtualAdversarial` is a difference of nearly equal numbers, so its rounding is coarse."""
    for a, b in zip(found, expected, strict=True):
        assert_close(a.astype("float64"), b.astype("float64"), rtol=rtol, atol=atol)


@each_part("fit")
def test_it_changes_the_step(part):
    logs, found = plain(part)
    assert {"loss", "accuracy"} | names_of_terms(part) == set(logs)
    assert max(abs(a - b).max() for a, b in zip(found, plain("none")[1], strict=True)) > 1e-5


@each_part("mixed_float16")
def test_mixed_float16(part, set_dtype_policy):
    logs, expected = plain(part)
    set_dtype_policy("mixed_float16")
    model = compiled(part, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**7))
    found = fitted(model)
    assert_close(found[0]["loss"], logs["loss"], atol=0.05)
    if part not in ("VirtualAdversarial", "all"):  # whose directions are coarse
        assert_all_close(found[1], expected, rtol=0.05, atol=0.02)


@only("tensorflow", "jax", why="Keras has no steps_per_execution on PyTorch.")
@each_part("steps_per_execution")
def test_steps_per_execution(part):
    assert_all_close(fitted(compiled(part, steps_per_execution=2))[1], plain(part)[1])


@each_part("accumulation")
def test_accumulation_of_2(part):
    model = compiled(part, keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    before = [np.array(w) for w in map(keras.ops.convert_to_numpy, model.trainable_variables)]
    moved = []
    for _ in range(2):
        model.train_on_batch(X[:4], Y[:4])
        now = map(keras.ops.convert_to_numpy, model.trainable_variables)
        moved.append(any((a != b).any() for a, b in zip(before, now, strict=True)))
    assert moved == [False, True]


@pytest.mark.filterwarnings("ignore:Dynamo", "ignore:The .grad attribute")  # of Keras' own code
@each_part("jit_compile")
def test_jit_compile(part):
    if BACKEND == "torch" and part != "ConfidencePenalty" and not os.environ.get("KERAS_REG_COMPILE_TORCH"):
        pytest.skip("PyTorch's compiler needs a minute for each part. KERAS_REG_COMPILE_TORCH=1 runs it.")
    is_new = tuple(map(int, keras.__version__.split(".")[:2])) >= (
        3,
        15,
    )  # Dynamo fails in that of 3.10
    if BACKEND == "torch" and not (is_new and shutil.which("c++")):
        pytest.skip("PyTorch's compiler needs a new Keras, and a compiler for C++.")
    start, found = weights(compiled("none")), fitted(compiled(part, jit_compile=True))[1]
    assert all((a != b).any() for a, b in zip(start[:2], found[:2], strict=True))
    if BACKEND != "tensorflow":  # where XLA has other random numbers
        assert_all_close(found, plain(part)[1])


def copy_seeds_of_keras(model, other):
    """A file does not hold the seeds of Keras' own layers."""
    for old, new in zip(model.non_trainable_variables, other.non_trainable_variables, strict=True):
        new.assign(np.array(keras.ops.convert_to_numpy(old)))


@each_part("save and load")
def test_save_and_load(part, tmp_path):
    model = compiled(part, run_eagerly=BACKEND == "tensorflow")
    fitted(model, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = model.run_eagerly
    copy_seeds_of_keras(model.model, loaded.model)
    for one in (model, loaded):
        one.train_on_batch(X, Y)
    assert_all_close(weights(loaded), weights(model), rtol=1e-5, atol=1e-6)
    assert set(loaded.evaluate(X, Y, verbose=0, return_dict=True)) == {"loss", "accuracy"}
    assert len(loaded.evaluate(X, Y, verbose=0)) == 2


@each_part("second use")
def test_it_trains_again_after_evaluation_and_prediction(part):
    """With class weights and a partial last batch, then with sample weights. Predictions are those of the network."""
    model = compiled(part, run_eagerly=BACKEND == "tensorflow")
    model.fit(X, Y, batch_size=5, verbose=0, class_weight={0: 1.0, 1: 2.0, 2: 1.0}, validation_data=(X, Y))
    before, first = model.evaluate(X, Y, verbose=0), model.predict(X, verbose=0)
    model.fit(X, Y, batch_size=5, verbose=0, sample_weight=np.ones(8, "float32"))
    again = model.predict(X, verbose=0)
    assert np.isfinite(before).all() and np.isfinite(again).all() and abs(again - first).max() > 1e-4
    assert_close(again, model.model.predict(X, verbose=0), rtol=1e-6, atol=1e-6)


@each_part("train_on_batch")
def test_train_on_batch(part):
    eagerly = BACKEND == "tensorflow" and not augments(part)  # whose compiled draws are others
    model = compiled(part, run_eagerly=eagerly)
    for _ in range(2):
        logs = [model.train_on_batch(X[start : start + 4], Y[start : start + 4], return_dict=True) for start in (0, 4)]
    assert {"loss", "accuracy"} | names_of_terms(part) == set(logs[0])
    assert_all_close(weights(model), plain(part)[1])


@each_part("two outputs")
def test_two_outputs(part):
    logs, found = fitted(compiled(part, outputs=2, run_eagerly=BACKEND == "tensorflow"), outputs=2)
    assert names_of_terms(part) <= set(logs)
    assert abs(found[-1]).max() > 0  # the bias of the second head has moved


@pytest.mark.parametrize("part", ["ConsistentDropout", "VirtualAdversarial", "SharpnessAware"])
def test_metrics_and_losses_of_outputs_are_those_of_the_first_pass(part):
    model, other = compiled(part, keras.optimizers.SGD(0.0), outputs=2), compiled("none", keras.optimizers.SGD(0.0), 2)
    found, expected = (one.train_on_batch(X, [Y, Y], return_dict=True) for one in (model, other))
    assert len(expected) == 5
    for name in expected:
        if name != "loss":
            assert_close(found[name], expected[name], rtol=1e-5)


def test_without_parts_it_is_the_plain_model():
    model = training.RegularizedModel(network())
    other = network()
    for one in (model, other):
        one.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        one.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(weights(model), map(keras.ops.convert_to_numpy, other.weights), strict=True):
        assert (a == np.asarray(b)).all()


# Several devices.

ON_DEVICES = """
    import contextlib, keras, numpy as np
    from harness import assert_close
    from keras_reg import layers
    from training.parts_of_steps import PARTS, REFUSED, compiled, fitted

    compared, options = list(PARTS), {{}}
    {prepare}

    def run(part, parallel):
        with {scope}:
            return fitted(compiled(part, of_network=options))

    for part in PARTS:
        if (part, {setting!r}) in REFUSED:
            try:
                run(part, True)
            except ValueError as error:
                assert REFUSED[part, {setting!r}] in str(error), error
            else:
                raise AssertionError(part + " is not refused")
        elif part in compared:
            (logs, weights), (found, found_weights) = run(part, False), run(part, True)
            if part == "VirtualAdversarial" and {setting!r} == "MirroredStrategy":  # random signs of directions
                assert_close(found["virtual_adversarial"], logs["virtual_adversarial"], rtol=0.1)
                continue
            for a, b in zip(weights, found_weights, strict=True):
                assert_close(b, a, rtol=1e-3, atol=5e-4)
        else:
            run(part, True)
    print("done")
"""


@only("jax", why="keras.distribution.DataParallel runs on JAX")
def test_data_parallel():
    distribution = "keras.distribution.DataParallel() if parallel else None"
    scope = f"contextlib.nullcontext(keras.distribution.set_distribution({distribution}))"
    code = ON_DEVICES.format(setting="DataParallel", prepare="", scope=scope)
    done = run_in_fresh_process(code, env={"XLA_FLAGS": "--xla_force_host_platform_device_count=2"})
    assert done.endswith("done\n")


@only("tensorflow", why="tf.distribute is TensorFlow's")
def test_mirrored_strategy():
    """Replicas normalize and draw by themselves. Numbers are compared where no draw matters, and the others run."""
    prepare = """
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    options = {"dropout": 1e-9, "normalizes": False}
    PARTS["augmentation"] = lambda: {"augmentation": layers.MixUp(0.5, rate=0.0)}
    compared = ["augmentation", "ConfidencePenalty", "ConsistentDropout", "VirtualAdversarial", "SharpnessAware"]
    """
    scope = "strategy.scope() if parallel else contextlib.nullcontext()"
    code = ON_DEVICES.format(setting="MirroredStrategy", prepare=prepare, scope=scope)
    assert run_in_fresh_process(code).endswith("done\n")


class Repeated(training.Penalty):
    """How far the outputs of a further pass with the same masks are from those of the first pass."""

    def compute(self, step, x, y, y_pred, sample_weight):
        return keras.ops.max(keras.ops.abs(y_pred - step.run(x)))


def test_further_passes_of_a_stateful_rnn_start_from_the_same_state():
    parts = [keras.layers.SimpleRNN(3, stateful=True), keras.layers.Dropout(1e-7), keras.layers.Dense(2)]
    network = keras.Sequential([keras.Input(batch_shape=(2, 3, 2)), *parts])
    penalties = [Repeated(0.0, name="repeated"), training.ConsistentDropout(1.0)]
    model = training.RegularizedModel(network, penalties=penalties)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(8, 3, 2)).astype("float32")
    model.fit(x, np.array([0, 1] * 4), batch_size=2, verbose=0, shuffle=False)
    logs = model.train_on_batch(x[:2], np.array([0, 1]), return_dict=True)
    assert logs["repeated"] < 1e-6 and abs(logs["consistent_dropout"]) < 1e-6


REPLICAS = """
import keras, numpy as np, tensorflow as tf
from keras import ops
from keras_reg import layers, training
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

class TenTimesInEverySecondPass(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        return x * (1 + ops.cast(self.seeds.next()[1] % 2, x.dtype) * 9) if training else x

with strategy.scope():
    dense = keras.layers.Dense(1, kernel_initializer="ones")
    network = keras.Sequential([keras.Input((1,)), dense, TenTimesInEverySecondPass()])
    squared = lambda p, q: ops.mean((p - q) ** 2)
    model = training.RegularizedModel(network, penalties=[training.ConsistentDropout(0.0, divergence=squared)])
    model.compile(keras.optimizers.SGD(0.001), "mse")
logs = model.train_on_batch(np.ones((4, 1)), np.zeros((4, 1)), return_dict=True)
# The mean of the losses of both passes is (1 + 100) w² / 2 at w = 1. Its gradient is 101.
np.testing.assert_allclose([logs["loss"], network.get_weights()[0].item()], [50.5, 1 - 0.101], rtol=1e-5)

METRICS = lambda: [keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="precision")]
rng = np.random.default_rng(0)
x, y = rng.normal(size=(18, 4)).astype("float32"), rng.integers(0, 2, (18, 1))

def logs_of(**parts):
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(1, "sigmoid", kernel_initializer=keras.initializers.GlorotUniform(1))(inputs)
    model = training.RegularizedModel(keras.Model(inputs, outputs), **parts)
    # A small rate, since Keras halves the loss of a batch of which one replica has no examples.
    model.compile(keras.optimizers.SGD(1e-3), "binary_crossentropy", metrics=METRICS())
    found = model.fit(x[:17], y[:17], batch_size=4, shuffle=False, epochs=2, verbose=0, validation_data=(x, y)).history
    assert not any("penalty" in name for name in model.evaluate(x, y, return_dict=True, verbose=0))
    return found

for parts in [
    {"penalties": [training.ConfidencePenalty(0.1)]},
    {"sharpness": training.SharpnessAware(0.1, every=2)},
]:
    one = logs_of(**parts)
    with strategy.scope():
        several = logs_of(**parts)
    assert one.keys() == several.keys(), (one.keys(), several.keys())
    for name in one:
        np.testing.assert_allclose(several[name], one[name], rtol=1e-4, atol=1e-6, err_msg=name)

with strategy.scope():
    noise = layers.RandomGaussianNoise(0.1)
    found = logs_of(penalties=[training.VirtualAdversarial(1.0), training.JensenShannonConsistency(noise)])
assert np.isfinite(sum(found.values(), [])).all(), found
print("done")
"""


@only("tensorflow", why="tf.distribute is TensorFlow's")
def test_replicas_with_a_short_last_batch():
    """Replicas share metrics, and the loss of a second pass. In the last batch, one of them has no examples."""
    assert run_in_fresh_process(REPLICAS).endswith("done\n")
