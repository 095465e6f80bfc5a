"""Custom loops on JAX: what is traced outside of a `StatelessScope` is refused, and inside is a step of `fit`."""

import keras
import numpy as np
import pytest
from harness import only, raises_received, run_in_fresh_process, to_numpy

from keras_reg import layers, training

pytestmark = only("jax", why="It is about functions that JAX traces.")
X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.arange(8) % 3


def made(cls=training.RegularizedModel, **parts):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = cls(network, **parts)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.build((None, 4))
    return model


def values_of(model):
    trained, others = model.trainable_variables, model.non_trainable_variables
    return [v.value for v in trained], [v.value for v in others], [*trained, *others]


@pytest.mark.parametrize("penalty", [training.ConfidencePenalty(0.1), training.VirtualAdversarial(1.0, seed=0)])
def test_a_loss_of_a_stateless_call_would_leave_penalties_without_a_gradient(penalty):
    import jax

    model = made(penalties=[penalty])
    trainable, others, _ = values_of(model)

    def loss(trainable):
        y_pred, _ = model.stateless_call(trainable, others, X, training=True)
        return model.compute_loss(X, Y, y_pred)

    for compute in (jax.jit(jax.grad(loss)), jax.grad(loss)):
        with raises_received("`compute_loss`", "StatelessScope"):
            compute(trainable)


class OwnStep(training.RegularizedModel):
    """A step as in Keras' guide, without a scope for the loss."""

    def compute_loss_and_updates(self, trainable, others, x, y):
        y_pred, others = self.stateless_call(trainable, others, x, training=True)
        return self.compute_loss(x, y, y_pred), others

    def train_step(self, state, data):
        import jax

        trainable, others, optimizer, metrics = state
        compute = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (loss, others), gradients = compute(trainable, others, *data)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return {"loss": loss}, (trainable, others, optimizer, metrics)


def test_a_step_of_a_subclass_without_a_scope_is_refused_and_keeps_the_weights():
    model = made(cls=OwnStep, penalties=[training.ConfidencePenalty(0.1)])
    before = model.get_weights()
    with raises_received("`compute_loss`", "StatelessScope"):
        model.fit(X, Y, verbose=0)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_augment_would_repeat_its_draws():
    import jax

    model = made(augmentation=layers.MixUp(0.4, seed=0))
    with raises_received("`augment`", "StatelessScope"):
        jax.jit(lambda x, y: model.augment(x, y)[0])(X, Y)


def test_sharpness_would_use_the_weights_at_the_time_of_tracing():
    import jax

    model = made(sharpness=training.SharpnessAware(0.05))
    trainable, _, _ = values_of(model)
    with raises_received("`sharpened_gradients`", "StatelessScope"):
        jax.jit(lambda gradients: model.sharpened_gradients(gradients, X, Y))(trainable)


PARTS = {
    "penalty": lambda: {"penalties": [training.VirtualAdversarial(1.0, seed=0)]},
    "sharpness": lambda: {
        "penalties": [training.ConfidencePenalty(0.1)],
        "sharpness": training.SharpnessAware(0.05),
    },
}


@pytest.mark.parametrize("name", PARTS)
def test_a_loop_in_a_scope_is_the_loop_of_fit(name):
    """With passes of the penalty or of sharpness, and mixtures that differ from step to step."""
    import jax

    model, expected = (made(**PARTS[name](), augmentation=layers.MixUp(0.4, seed=3)) for _ in range(2))
    expected.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    trainable, others, variables = values_of(model)

    def loss(trainable, others):
        with keras.StatelessScope(list(zip(variables, [*trainable, *others], strict=True))) as scope:
            x, y, sample_weight = model.augment(X, Y)
            found = model.compute_loss(x, y, model(x, training=True), sample_weight)
        moved = [scope.get_current_value(variable) for variable in model.non_trainable_variables]
        return found, [old if new is None else new for new, old in zip(moved, others, strict=True)]

    @jax.jit
    def step(trainable, others):
        (_, moved), gradients = jax.value_and_grad(loss, has_aux=True)(trainable, others)
        with keras.StatelessScope(list(zip(variables, [*trainable, *others], strict=True))):
            x, y, sample_weight = model.augment(X, Y)  # the draws of `loss`
            gradients = model.sharpened_gradients(gradients, x, y, sample_weight)
        return [value - 0.1 * gradient for value, gradient in zip(trainable, gradients, strict=True)], moved

    for _ in range(3):
        trainable, others = step(trainable, others)
    for value, variable in zip(trainable, expected.trainable_variables, strict=True):
        np.testing.assert_allclose(to_numpy(value), to_numpy(variable), atol=1e-5)


def test_the_error_of_a_leaked_tracer_is_not_hidden():
    import jax

    layer = layers.RandomErasing(1.0, seed=0)
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model = training.RegularizedModel(network, layer)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.ones((8, 4, 4, 1), "float32")
    jax.jit(lambda x: layer(x, training=True))(images)
    with pytest.raises(jax.errors.UnexpectedTracerError):
        model.fit(images, Y, verbose=0)


DRAWS = """
import numpy as np
from keras_reg import layers
x, y = np.linspace(0, 1, 192, dtype="float32").reshape(4, 4, 4, 3), np.arange(4) % 3
made = [layers.MixUp(0.4, num_classes=3, seed=0), layers.CutMix(1.0, num_classes=3, seed=0),
        layers.RandomGaussianNoise(0.1, 1.0, seed=0), layers.RandomAffine(20, seed=0)]
found = [np.asarray(part) for layer in made for part in layer((x, y), index=5)]
assert all(str(part.dtype) == "float32" for part in found[:5]), [part.dtype for part in found]
np.savez({path!r}, *[part.astype("float32") for part in found])
"""


def test_the_draws_do_not_depend_on_jax_enable_x64(tmp_path):
    found = []
    for enabled in ("0", "1"):
        path = str(tmp_path / f"{enabled}.npz")
        run_in_fresh_process(DRAWS.format(path=path), env={"JAX_ENABLE_X64": enabled})
        found.append(np.load(path))
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], atol=1e-5)
