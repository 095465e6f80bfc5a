"""RegularizedModel: what a training step on augmented batches computes, and that nothing else changes."""

import concurrent.futures
import re

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, gradients, only, raises_received, run_in_fresh_process, slow_on, to_numpy

from keras_reg import layers, losses, training

CLASSES = 5
CE = keras.losses.SparseCategoricalCrossentropy
DENSE_CE = keras.losses.CategoricalCrossentropy


def batch(count=10, height=8, width=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((count, height, width, 3), "float32")
    return x, rng.integers(0, CLASSES, count).astype("int32"), rng.random(count).astype("float32") + 0.5


def network(regularizer=None, outputs=CLASSES, seed=3, dropout=0.0):
    keras.utils.set_random_seed(seed)
    parts = [
        keras.Input((8, 6, 3)),
        keras.layers.Conv2D(4, 3, activation="relu", kernel_regularizer=regularizer),
        keras.layers.Flatten(),
    ]
    parts += [keras.layers.Dropout(dropout)] if dropout else []
    return keras.Sequential([*parts, keras.layers.Dense(outputs)])


def mixers(seed=7):
    choice = layers.RandomChoice([layers.MixUp(0.8), layers.CutMix(1.0)], mode="sample")
    return layers.Pipeline([layers.RandomErasing(rate=0.5), choice], seed=seed)


def augmented(model=None, augmentation=None, loss=None, **compiling):
    model = training.RegularizedModel(model or network(), augmentation or mixers())
    compiling.setdefault("optimizer", keras.optimizers.SGD(0.1))
    model.compile(loss=loss or CE(from_logits=True), metrics=["accuracy"], **compiling)
    return model


def per_sample(logits, labels):
    """Cross-entropy in NumPy, (batch,)."""
    z = logits - logits.max(-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels]


def one_hot(labels):
    return np.eye(CLASSES, dtype="float32")[labels]


# The loss of a mixed sample.


def test_sparse_labels_train_as_one_hot_labels_do():
    """Cross-entropy is linear in its target, so the same numbers give the same loss and the same weights."""
    x, y, w = batch()
    sparse, dense = augmented(), augmented(loss=DENSE_CE(from_logits=True))
    for _ in range(3):
        of_sparse = sparse.train_on_batch(x, y, sample_weight=w)[0]
        of_dense = dense.train_on_batch(x, one_hot(y), sample_weight=w)[0]
        assert_close(of_sparse, of_dense, rtol=1e-5)
    assert_close(sparse.get_weights(), dense.get_weights(), rtol=1e-4, atol=1e-5)
    untouched = network().get_weights()
    assert max(np.abs(a - b).max() for a, b in zip(sparse.model.get_weights(), untouched, strict=True)) > 1e-3


def test_sparse_gradients_equal_dense_gradients():
    x, y, w = batch()
    found = []
    for loss, labels in ((CE(from_logits=True), y), (DENSE_CE(from_logits=True), one_hot(y))):
        model = augmented(network("l2"), loss=loss)
        x_mixed, y_mixed, w_mixed = model.augment(x, labels, w)
        found.append(
            gradients(
                lambda m=model, a=x_mixed, b=y_mixed, c=w_mixed: m.compute_loss(a, b, m(a, training=True), c),
                model.trainable_variables,
            )
        )
    assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert max(np.abs(g).max() for g in found[0]) > 1e-3


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight"])
@pytest.mark.parametrize("weighted", [True, False])
def test_loss_is_the_mixture_under_every_reduction(reduction, weighted):
    x, y, w = batch()
    model = augmented(loss=CE(from_logits=True, reduction=reduction))
    x_mixed, mixture, w_mixed = model.augment(x, y, w if weighted else None)
    logits = to_numpy(model(x_mixed, training=True))
    first, second = (per_sample(logits, to_numpy(labels)) for labels in mixture.labels)
    share = to_numpy(mixture.weights)
    assert_close(share.sum(1), np.ones(len(x)))
    assert (share[:, 1] > 0.05).any()
    values = share[:, 0] * first + share[:, 1] * second
    weights = to_numpy(w_mixed) if weighted else np.ones(len(x))
    divisor = {"sum": 1.0, "mean_with_sample_weight": weights.sum()}.get(reduction, len(x))
    loss = model.compute_loss(x_mixed, mixture, model(x_mixed, training=True), w_mixed)
    assert_close(loss, (weights * values).sum() / divisor, rtol=1e-5)


def test_sample_weights_mix_like_labels():
    """A weight that is a linear function of the label comes out as that function of the mixed label."""
    x, y, _ = batch()
    slope = np.linspace(1, 3, CLASSES).astype("float32")
    model = augmented()
    _, mixture, mixed = model.augment(x, y, slope[y])
    share, labels = to_numpy(mixture.weights), [to_numpy(labels) for labels in mixture.labels]
    assert_close(mixed, share[:, 0] * slope[labels[0]] + share[:, 1] * slope[labels[1]], rtol=1e-5)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
def test_sequence_losses_with_one_weight_a_sample(reduction):
    """Losses of shape (batch, steps): the share of a term spreads over the steps."""
    x = batch()[0]
    y = np.arange(10 * 4).reshape(10, 4).astype("int32") % CLASSES
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [keras.Input((8, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(4 * CLASSES), keras.layers.Reshape((4, -1))]
    )
    model = augmented(net, layers.MixUp(1.0, seed=1), CE(from_logits=True, reduction=reduction))
    x_mixed, mixture, _ = model.augment(x, y)
    logits = to_numpy(model(x_mixed)).reshape(40, CLASSES)
    first, second = (per_sample(logits, to_numpy(labels).reshape(-1)).reshape(10, 4) for labels in mixture.labels)
    share = to_numpy(mixture.weights)
    expected = (share[:, :1] * first + share[:, 1:] * second).mean()
    assert_close(model.compute_loss(x_mixed, mixture, model(x_mixed)), expected, rtol=1e-5)


def test_two_mixers_in_a_row_have_four_terms():
    x, y, _ = batch()
    chain = layers.Pipeline([layers.MixUp(1.0), layers.CutMix(1.0)], seed=4)
    sparse, dense = augmented(augmentation=chain), augmented(augmentation=chain.from_config(chain.get_config()))
    x_mixed, mixture, _ = sparse.augment(x, y)
    dense_x, dense_y, _ = dense.augment(x, one_hot(y))
    assert len(mixture.labels) == 4
    assert_close(x_mixed, dense_x)
    share = to_numpy(mixture.weights)
    target = sum(share[:, k, None] * one_hot(to_numpy(labels)) for k, labels in enumerate(mixture.labels))
    assert_close(target, dense_y.labels[0], atol=1e-5)
    best = share.argmax(1)
    expected = np.stack([to_numpy(labels) for labels in mixture.labels])[best, np.arange(len(x))]
    sure = np.sort(share, 1)[:, -1] - np.sort(share, 1)[:, -2] > 1e-3
    assert_close(to_numpy(mixture.dominant)[sure], expected[sure])


def test_label_smoothing_and_mixing_commute():
    """Smoothing each of two integer labels is smoothing their mixture."""
    x, y, _ = batch()
    loss = losses.LabelSmoothingCrossentropy(0.2, from_logits=True)
    of_sparse = augmented(loss=loss).train_on_batch(x, y)[0]
    of_dense = augmented(loss=DENSE_CE(from_logits=True, label_smoothing=0.2)).train_on_batch(x, one_hot(y))[0]
    assert_close(of_sparse, of_dense, rtol=1e-5)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", keras.losses.sparse_categorical_crossentropy])
def test_losses_by_name_and_as_functions(loss):
    x, y, _ = batch()
    net = lambda: keras.Sequential([network(), keras.layers.Softmax()])  # noqa: E731
    by_name, by_class = augmented(net(), loss=loss), augmented(net(), loss=CE())
    assert_close(by_name.train_on_batch(x, y)[0], by_class.train_on_batch(x, y)[0], rtol=1e-5)


def test_regression_by_name_aligns_ranks():
    x, _, w = batch()
    named = augmented(network(outputs=1), layers.CutMix(seed=1), "mse")
    plain = augmented(network(outputs=1), layers.CutMix(seed=1), keras.losses.MeanSquaredError())
    assert_close(named.train_on_batch(x, w)[0], plain.train_on_batch(x, w)[0], rtol=1e-6)


# Once a step.


@keras.saving.register_keras_serializable(package="tests")
class CountCalls(keras.layers.Layer):
    """Counts, in a weight, how often it runs in training; adds a constant loss of 3."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs, training=False):
        if training:
            self.calls.assign_add(1.0)
        self.add_loss(3.0 + 0.0 * keras.ops.sum(inputs))
        return inputs


def test_the_network_runs_once_a_step_and_its_losses_count_once():
    x, y, _ = batch()
    counter = CountCalls()
    net = keras.Sequential([keras.Input((8, 6, 3)), counter, network(keras.regularizers.L2(0.5))])
    model = augmented(net, optimizer=keras.optimizers.SGD(0.0))
    plain = augmented(network())
    kernel = net.layers[-1].layers[0].kernel
    penalty = 0.5 * float((to_numpy(kernel) ** 2).sum())
    loss = model.train_on_batch(x, y)[0]
    assert_close(loss - plain.train_on_batch(x, y)[0], 3.0 + penalty, rtol=1e-4)
    model.fit(x, y, batch_size=5, epochs=2, verbose=0)
    assert float(to_numpy(counter.calls)) == 1 + 4


@only("jax", why="XLA fuses what it compiles as one program, a training step on JAX")
@pytest.mark.parametrize("inputs", ["one input", "several inputs"])
def test_a_step_augments_the_images_once(inputs):
    """The first convolution reads them forward and backward: fused into both, they would be augmented twice. In the
    compiled step stand as many operations on rows of pixels as where the augmentation is compiled alone."""
    import jax

    images, ids, _ = batch()

    def operations(function, *arguments):
        program = jax.jit(function).lower(*arguments).compile().as_text()
        return re.findall(r" = f32\[10,8,18\]\S* (\w+)\(", program)  # 6 columns of 3 channels are one axis

    net = network()
    if inputs == "several inputs":
        image, size = keras.Input((8, 6, 3)), keras.Input((2,))
        net = keras.Model([image, size], keras.layers.Dense(CLASSES)(size) + net(image))
        images = [images, np.ones((10, 2), "float32")]
    model = augmented(net, layers.MixUp(0.8))
    model.build(keras.tree.map_structure(np.shape, images))
    model.optimizer.build(model.trainable_variables)
    parts = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables
    state = tuple([variable.value for variable in variables] for variables in parts)

    def augment(values, images, ids):
        pairs = zip(model.non_trainable_variables, values, strict=True)
        with keras.StatelessScope(state_mapping=list(pairs)):
            return model.augment(images, ids)[0]

    step, alone = operations(model.train_step, state, (images, ids)), operations(augment, state[1], images, ids)
    assert 0 < len(step) == len(alone)


# Randomness.


def test_draws_move_on_from_step_to_step_and_a_rerun_repeats():
    x, y, _ = batch()

    def run(seed):
        model = augmented(augmentation=mixers(seed), optimizer=keras.optimizers.SGD(0.0))
        return [model.train_on_batch(x, y)[0] for _ in range(6)]

    first = run(1)
    assert len(np.unique(np.round(first, 6))) == 6
    assert_close(first, run(1), rtol=1e-6)
    assert np.abs(np.subtract(first, run(2))).max() > 1e-3


def test_draws_go_on_through_epochs_of_fit():
    """Unless the seed went with the state of the compiled step, every epoch would see the same batches."""
    x, y, _ = batch()
    model = augmented(optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(x, y, batch_size=10, epochs=5, shuffle=False, verbose=0).history["loss"]
    again = augmented(optimizer=keras.optimizers.SGD(0.0))
    repeated = again.fit(x, y, batch_size=10, epochs=5, shuffle=False, verbose=0).history["loss"]
    assert len(np.unique(np.round(history, 6))) == 5
    assert_close(history, repeated, rtol=1e-6)


# Nothing else changes.


def test_evaluate_and_predict_are_those_of_the_plain_model():
    x, y, w = batch(23)
    model = augmented(network(dropout=0.3))
    model.fit(x, y, batch_size=8, verbose=0)
    plain = network(dropout=0.3)
    plain.set_weights(model.model.get_weights())
    plain.compile("sgd", CE(from_logits=True), metrics=["accuracy"])
    assert model.evaluate(x, y, sample_weight=w, verbose=0) == plain.evaluate(x, y, sample_weight=w, verbose=0)
    assert np.array_equal(model.predict(x, verbose=0), plain.predict(x, verbose=0))
    assert model.metrics_names == plain.metrics_names


def test_metrics_see_the_dominant_original_label():
    """A network that reads the label out of the image: the share of what was mixed in decides, and nothing else."""
    y = np.random.default_rng(0).integers(0, CLASSES, 60)
    x = np.zeros((60, 8, 6, 3), "float32") + y[:, None, None, None].astype("float32") * 10
    flat = keras.layers.Flatten()
    net = keras.Sequential([keras.Input((8, 6, 3)), flat, keras.layers.Dense(CLASSES)])
    nearest = np.arange(CLASSES) * 10.0  # logit k is -(mean - 10 k)^2 up to a shared term
    net.layers[-1].set_weights(
        [np.tile(2 * nearest / 144, (144, 1)).astype("float32"), (-(nearest**2)).astype("float32")]
    )
    model = augmented(net, layers.RandomErasing(rate=0.0), optimizer=keras.optimizers.SGD(0.0))
    assert model.train_on_batch(x, y)[1] == 1.0
    kept = augmented(net, layers.CutMix(0.3, seed=1), optimizer=keras.optimizers.SGD(0.0))
    _, mixture, _ = kept.augment(x, y)
    share, terms = to_numpy(mixture.weights), [to_numpy(t) for t in mixture.labels]
    dominant = np.where(share[:, 0] >= share[:, 1], terms[0], terms[1])
    assert_close(mixture.dominant, dominant)
    assert (dominant != y).any()


@pytest.mark.parametrize("labels", ["one_hot", "integers"])
def test_training_accuracy_is_that_of_original_labels(labels):
    """Mixed one-hot targets whose argmax the metric took would agree too; those of dense soft labels would not."""
    x, y, _ = batch()
    target = one_hot(y) if labels == "one_hot" else y
    model = augmented(loss=DENSE_CE(from_logits=True) if labels == "one_hot" else CE(from_logits=True))
    _, mixture, _ = model.augment(x, target)
    dominant = to_numpy(mixture.dominant)
    if labels == "one_hot":
        assert np.isin(dominant, [0, 1]).all() and (dominant.sum(1) == 1).all()
    else:
        assert dominant.dtype.kind == "i"


def test_metrics_do_not_see_label_noise():
    x, y, _ = batch(40)
    model = augmented(augmentation=layers.LabelNoise(1.0, CLASSES, seed=1))
    _, mixture, _ = model.augment(x, y)
    assert_close(mixture.dominant, y)
    assert (to_numpy(mixture.labels[0]) != y).any()


# Every way to train.


@pytest.mark.parametrize("jit_compile", [False, True] if BACKEND != "torch" else [False])
def test_fit_with_everything_at_once(jit_compile):
    """class_weight, steps_per_execution, gradient accumulation, a last partial batch and one of a single sample."""
    x, y, _ = batch(13)
    model = augmented(
        optimizer=keras.optimizers.Adam(3e-2, gradient_accumulation_steps=2),
        steps_per_execution=1 if BACKEND == "torch" else 3,
        jit_compile=jit_compile,
    )
    history = model.fit(x, y, batch_size=4, epochs=4, class_weight={k: 1.0 + k for k in range(CLASSES)}, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert history.history["loss"][-1] < history.history["loss"][0]


@pytest.mark.slow
@only("torch", why="torch.compile is the compiled step of PyTorch alone")
def test_torch_compile_traces_the_step():
    """With Dynamo's own tracing and no code generation, which takes minutes."""
    import torch

    x, y, _ = batch(8)
    model = augmented(optimizer=keras.optimizers.SGD(0.0))
    eager = augmented(optimizer=keras.optimizers.SGD(0.0))
    step = torch.compile(model.augment, backend="eager")
    x_torch, y_torch = torch.as_tensor(x), torch.as_tensor(y)
    for _ in range(2):
        of_compiled, of_eager = step(x_torch, y_torch), eager.augment(x_torch, y_torch)
        assert_close(of_compiled[0], of_eager[0])
        assert_close(of_compiled[1].weights, of_eager[1].weights)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_low_precision(policy):
    keras.config.set_dtype_policy(policy)
    x, y, w = batch(12)
    model = augmented(optimizer=keras.optimizers.Adam(1e-2))
    if policy == "mixed_float16":
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    _, mixture, mixed = model.augment(x, one_hot(y), w)
    assert keras.backend.standardize_dtype(mixture.labels[0].dtype) == "float32"
    assert keras.backend.standardize_dtype(mixed.dtype) == "float32"
    history = model.fit(x, y, batch_size=6, epochs=6, verbose=0).history["loss"]
    assert np.isfinite(history).all() and history[-1] < history[0]


def test_a_step_that_overflows_moves_what_it_moves_in_plain_keras():
    """A loss scale of 2^40 makes every gradient infinite in float16: only moving statistics and the scale move."""
    keras.config.set_dtype_policy("mixed_float16")
    x, y, w = batch()

    def kept(model):
        optimizer = model.optimizer.inner_optimizer
        slots = [variable for variable in optimizer.variables if variable.name != "learning_rate"]
        return [to_numpy(variable).copy() for variable in [*model.trainable_variables, *slots]]

    def moving(model):
        return [to_numpy(v).copy() for v in model.non_trainable_variables if "moving" in v.name]

    def statistics_of(wrap):
        convolution, *others = network(dropout=0.5).layers
        norms = [keras.layers.BatchNormalization(), layers.NoisyBatchNormalization(0.1)]
        model = wrap(keras.Sequential([keras.Input((8, 6, 3)), convolution, *norms, *others]))
        adam = keras.optimizers.Adam(0.1, use_ema=True)
        model.compile(keras.optimizers.LossScaleOptimizer(adam, initial_scale=2.0**40), CE(from_logits=True))
        model.optimizer.build(model.trainable_variables)
        before, start = kept(model), moving(model)
        for number in range(1, 4):
            model.train_on_batch(x, y, sample_weight=w)
            assert float(to_numpy(model.optimizer.dynamic_scale)) == 2.0 ** (40 - number)
            for actual, expected in zip(kept(model), before, strict=True):
                np.testing.assert_array_equal(actual, expected)
        moved = moving(model)
        assert len(moved) == 4 and all((a != b).all() for a, b in zip(moved, start, strict=True))
        model.optimizer.dynamic_scale.assign(2.0)
        model.train_on_batch(x, y, sample_weight=w)
        assert all((a != b).any() for a, b in zip(kept(model), before, strict=True))  # and training goes on
        return moved

    plain = statistics_of(lambda net: net)
    augmented = statistics_of(lambda net: training.RegularizedModel(net, layers.MixUp(0.2, rate=0.0)))
    assert_close(augmented, plain, rtol=1e-3, atol=1e-5)


def test_custom_loop():
    x, y, w = batch()
    model = augmented()
    x_mixed, y_mixed, w_mixed = model.augment(x, y, w)
    y_pred = model(x_mixed, training=True)
    loss = model.compute_loss(x_mixed, y_mixed, y_pred, w_mixed)
    logs = model.compute_metrics(x_mixed, y_mixed, y_pred, w_mixed)
    assert np.isfinite(to_numpy(loss)) and 0 <= float(to_numpy(logs["accuracy"])) <= 1


def test_unlabelled_images():
    """A model that reconstructs nothing but learns from its own losses: no labels, no loss."""
    x = batch()[0]
    net = keras.Sequential([keras.Input((8, 6, 3)), CountCalls(), keras.layers.Flatten(), keras.layers.Dense(2)])
    model = training.RegularizedModel(net, layers.MixUp(seed=1))
    mixed, labels, weights = model.augment(x)
    assert labels is None and weights is None
    assert np.abs(to_numpy(mixed) - x).max() > 0.01


def test_keras_image_layers_and_strength():
    from keras_reg import Strength

    x, y, _ = batch()
    mix = layers.MixUp(0.8, rate=Strength(1.0))
    model = augmented(augmentation=layers.Pipeline([keras.layers.RandomFlip(seed=1), mix], seed=1))
    model.fit(x, y, verbose=0)
    weight = next(v for v in model.non_trainable_variables if "rate" in v.path)
    weight.assign(0.0)
    _, mixture, _ = model.augment(x, y)
    assert_close(to_numpy(mixture.weights)[:, 0], np.ones(len(x)))
    flips = training.RegularizedModel(network(), keras.layers.RandomFlip(seed=1))
    flips.compile("sgd", CE(from_logits=True))
    flips.fit(x, y, verbose=0)


# Several inputs and outputs.


def several(seed=0):
    keras.utils.set_random_seed(seed)
    image, size = keras.Input((8, 6, 3), name="image"), keras.Input((2,), name="size")
    features = keras.layers.Concatenate()([keras.layers.Flatten()(image), size])
    return keras.Model({"image": image, "size": size}, keras.layers.Dense(CLASSES)(features))


def test_the_named_input_is_augmented():
    x, y, w = batch()
    inputs = {"image": x, "size": np.ones((10, 2), "float32")}
    erase = layers.RandomErasing(rate=1.0, seed=1)
    model = training.RegularizedModel(several(), erase, augmented_input="image")
    model.compile("sgd", CE(from_logits=True))
    moved, labels, _ = model.augment(inputs, y)
    assert (to_numpy(moved["image"]) != x).any()
    assert_close(moved["size"], inputs["size"])
    assert_close(labels, y)
    model.fit(inputs, y, sample_weight=w, verbose=0)
    with raises_received("augmented_input"):
        training.RegularizedModel(several(), erase).augment(inputs, y)
    with raises_received("image"):
        training.RegularizedModel(several(), erase, augmented_input="picture").augment(inputs, y)
    with raises_received("size"):
        training.RegularizedModel(several(), layers.CutMix(), augmented_input="image").augment(inputs, y)


def test_without_augmentation_it_is_the_plain_model(tmp_path):
    x, y, w = batch()
    inputs = {"image": x, "size": np.ones((10, 2), "float32")}
    weights, histories = [], []
    for wrap in (lambda net: net, training.RegularizedModel):
        model = wrap(several())
        model.compile(keras.optimizers.SGD(0.1), CE(from_logits=True), metrics=["accuracy"])
        histories.append(
            model.fit(inputs, y, 4, 2, 0, sample_weight=w, shuffle=False, validation_data=(inputs, y)).history
        )
        weights.append(model.get_weights())
    assert_close(weights[1], weights[0], rtol=1e-6, atol=1e-7)
    assert list(histories[1]) == list(histories[0])
    assert_close([*histories[1].values()], [*histories[0].values()], rtol=1e-6)
    assert model.augment(inputs, y, w) == (inputs, y, w)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.augmentation is None
    assert_close(again.predict(inputs, verbose=0), model.predict(inputs, verbose=0))


def test_several_outputs_mix_with_one_weight():
    x, y, w = batch()
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 6, 3))
    flat = keras.layers.Flatten()(image)
    heads = {"kind": keras.layers.Dense(CLASSES, name="kind")(flat), "age": keras.layers.Dense(1, name="age")(flat)}
    net = keras.Model(image, heads)
    model = training.RegularizedModel(net, layers.MixUp(1.0, seed=3))
    model.compile("sgd", {"kind": CE(from_logits=True), "age": "mse"}, metrics={"kind": ["accuracy"], "age": ["mae"]})
    labels = {"kind": y, "age": w[:, None]}
    x_mixed, mixture, _ = model.augment(x, labels)
    share = to_numpy(mixture.weights)
    predicted = to_numpy(model(x_mixed))
    first, second = (per_sample(predicted["kind"], to_numpy(term["kind"])) for term in mixture.labels)
    mixed_age = to_numpy(mixture.labels[0]["age"])
    expected = (share[:, 0] * first + share[:, 1] * second).mean() + ((predicted["age"] - mixed_age) ** 2).mean()
    assert_close(model.compute_loss(x_mixed, mixture, model(x_mixed)), expected, rtol=1e-5)
    assert np.abs(mixed_age - labels["age"]).max() > 0.01
    logs = model.fit(x, labels, verbose=0).history
    assert {"kind_accuracy", "age_mae", "kind_loss", "age_loss"} <= set(logs)
    model.evaluate(x, labels, verbose=0)


def test_dense_labels_are_cut_with_their_images():
    """A segmentation network: the map is cut by the box, and one term is enough."""
    x = batch()[0]
    y = (x[..., 0] * 3).astype("int32")
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Conv2D(3, 1)])
    model = augmented(net, layers.CutMix(1.0, seed=1))
    x_mixed, mixture, _ = model.augment(x, y)
    assert len(mixture.labels) == 1
    assert_close(mixture.labels[0], (to_numpy(x_mixed)[..., 0] * 3).astype("int32"))
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()
    both = augmented(net, layers.RandomChoice([layers.MixUp(1.0), layers.CutMix(1.0)], mode="sample", seed=1))
    assert np.isfinite(both.fit(x, y, verbose=0).history["loss"]).all()


# Saving.


def test_save_in_one_process_and_load_in_another_and_into_another_backend(tmp_path):
    x, y, _ = batch()
    model = augmented(network(dropout=0.2))
    model.fit(x, y, verbose=0)
    path, data = str(tmp_path / "model.keras"), str(tmp_path / "data.npz")
    model.save(path)
    np.savez(data, x=x, y=y, expected=model.predict(x, verbose=0), loss=model.evaluate(x, y, verbose=0))
    code = f"""
        import keras, numpy as np, keras_reg
        data = np.load({data!r})
        model = keras.models.load_model({path!r})
        np.testing.assert_allclose(model.predict(data["x"], verbose=0), data["expected"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model.evaluate(data["x"], data["y"], verbose=0), data["loss"], rtol=1e-4, atol=1e-5)
        assert type(model.augmentation.layers[1].layers[0]).__name__ == "MixUp"
        if keras.backend.backend() == {BACKEND!r}:
            assert int(model.optimizer.iterations) == 1
        else:  # Keras itself cannot go on in TensorFlow with an optimizer that was saved in PyTorch
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(data["x"], data["y"], verbose=0)
        print("loaded")
    """
    others = {"tensorflow": "jax", "jax": "tensorflow", "torch": "tensorflow"}
    for backend in (BACKEND, others[BACKEND]):
        assert "loaded" in run_in_fresh_process(code, env={"KERAS_BACKEND": backend})


@slow_on("tensorflow", "jax")
def test_the_inner_model_saves_without_this_package(tmp_path):
    x, y, _ = batch()
    model = augmented()
    model.fit(x, y, verbose=0)
    path, data = str(tmp_path / "inner.keras"), str(tmp_path / "data.npz")
    model.model.save(path)
    np.savez(data, x=x, expected=model.predict(x, verbose=0))
    code = f"""
        import sys, keras, numpy as np
        data = np.load({data!r})
        out = keras.models.load_model({path!r}).predict(data["x"], verbose=0)
        np.testing.assert_allclose(out, data["expected"], rtol=1e-5, atol=1e-6)
        assert "keras_reg" not in sys.modules
    """
    run_in_fresh_process(code)


# Several devices.


@only("jax", why="keras.distribution.DataParallel runs on JAX")
def test_data_parallel_on_eight_devices():
    """The batch is one array over all devices: images on different devices are augmented differently, and where
    nothing is random the losses are those of one device."""
    code = """
        import jax, keras, numpy as np
        from keras_reg import layers, training
        assert jax.device_count() == 8
        x = np.random.default_rng(0).random((32, 8, 6, 3), "float32"); y = np.arange(32) % 5
        def losses(rate, parallel, x=x):
            keras.distribution.set_distribution(keras.distribution.DataParallel() if parallel else None)
            keras.utils.set_random_seed(1)
            net = keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
            choice = layers.RandomChoice([layers.MixUp(rate=rate), layers.CutMix(rate=rate)], mode="sample")
            model = training.RegularizedModel(net, layers.Pipeline([layers.RandomErasing(rate), choice], seed=1))
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            return model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history["loss"]
        np.testing.assert_allclose(losses(0.0, True), losses(0.0, False), rtol=1e-5)
        np.testing.assert_allclose(losses(0.7, True), losses(0.7, False), rtol=1e-4)
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        same = np.ones((16, 8, 6, 3), "float32")
        net = keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
        model = training.RegularizedModel(net, layers.RandomErasing(1.0, fill=0.0, seed=1))
        erased = np.asarray(model.augment(same)[0])
        assert len(np.unique((erased == 0).reshape(16, -1), axis=0)) > 12
        print("done")
    """
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    assert "done" in run_in_fresh_process(code, env=env)


@only("tensorflow", why="tf.distribute is TensorFlow's")
@pytest.mark.parametrize("inside", [True, False], ids=["built in the scope", "built outside"])
def test_mirrored_strategy_on_two_devices(inside):
    """Replicas draw differently, and where nothing is random the losses are those of one device."""
    code = f"""
        import contextlib, keras, numpy as np, tensorflow as tf
        from keras_reg import layers, training
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        x = np.random.default_rng(0).random((32, 8, 6, 3), "float32"); y = np.arange(32) % 5
        def build(rate):
            choice = layers.RandomChoice([layers.MixUp(rate=rate), layers.CutMix(rate=rate)], mode="sample")
            return layers.Pipeline([layers.RandomErasing(rate), choice], seed=1)
        def losses(rate, parallel):
            keras.utils.set_random_seed(1)
            outside = None if {inside} else build(rate)
            with strategy.scope() if parallel else contextlib.nullcontext():
                net = keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
                model = training.RegularizedModel(net, outside or build(rate))
                model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            return model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history["loss"]
        np.testing.assert_allclose(losses(0.0, True), losses(0.0, False), rtol=1e-5)
        assert np.isfinite(losses(0.7, True)).all()
        with strategy.scope():
            erase = layers.RandomErasing(1.0, seed=1)
        ones = tf.ones((16, 8, 6, 1))
        @tf.function
        def step():
            return strategy.run(lambda: erase(ones))
        seen = []
        for _ in range(3):
            seen += [np.asarray(r).reshape(-1).tobytes() for r in strategy.experimental_local_results(step())]
        assert len(set(seen)) == 6, len(set(seen))
        print("done")
    """
    assert "done" in run_in_fresh_process(code)


@pytest.mark.slow
@only("torch", why="torch.distributed is PyTorch's")
def test_two_processes_of_torch_distributed(tmp_path):
    """Ranks draw differently but for `index`, and where nothing is random the weights are those of one process."""
    code = f"""
        import os, keras, numpy as np, torch
        from keras_reg import layers, training
        rank = int(os.environ["RANK"])
        store = {(tmp_path / "store").as_uri()!r}
        torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
        x = np.random.default_rng(0).random((32, 8, 6, 3), "float32"); y = np.arange(32) % 5

        def of_all_ranks(value):
            found = [None, None]
            torch.distributed.all_gather_object(found, value)
            return found

        mine = slice(16 * rank, 16 * rank + 16)
        def weights(rate, parallel):
            keras.utils.set_random_seed(1)
            net = keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
            choice = layers.RandomChoice([layers.MixUp(rate=rate), layers.CutMix(rate=rate)], mode="sample")
            model = training.RegularizedModel(net, layers.Pipeline([layers.RandomErasing(rate), choice], seed=1))
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            model.optimizer.build(model.trainable_variables)
            forward = torch.nn.parallel.DistributedDataParallel(model) if parallel else model
            images, labels = (torch.as_tensor(a[mine] if parallel else a) for a in (x, y))
            for _ in range(3):
                model.zero_grad()
                images_mixed, mixture, w = model.augment(images, labels)
                loss = model.compute_loss(images_mixed, mixture, forward(images_mixed, training=True), w)
                loss.backward()
                with torch.no_grad():
                    model.optimizer.apply([v.value.grad for v in model.trainable_variables])
            return np.concatenate([np.ravel(w) for w in model.get_weights()])
        np.testing.assert_allclose(weights(0.0, True), weights(0.0, False), rtol=1e-4, atol=1e-6)
        one, two = of_all_ranks(weights(0.7, True))
        np.testing.assert_array_equal(one, two)

        erase = layers.RandomErasing(1.0, seed=1)
        def prints(**arguments):
            return [keras.ops.convert_to_numpy(erase(np.ones((16, 8, 6, 1), "float32"), **arguments)).tobytes()]
        drawn = sum(of_all_ranks(prints() + prints() + prints()), [])
        assert len(set(drawn)) == 6, len(set(drawn))
        assert len(set(sum(of_all_ranks(prints(index=3)), []))) == 1
        torch.distributed.destroy_process_group()
        print("done")
    """
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        ranks = [
            pool.submit(run_in_fresh_process, code, env={"RANK": str(rank), "OMP_NUM_THREADS": "1"})
            for rank in range(2)
        ]
    assert all("done" in rank.result() for rank in ranks)


# Bad input.


def test_refuses_wrong_parts():
    with raises_received("RegularizedModel"):
        training.RegularizedModel(augmented(), layers.MixUp())
    with raises_received("model"):
        training.RegularizedModel("resnet", layers.MixUp())
    with raises_received("augmentation"):
        training.RegularizedModel(network(), "mixup")
    with raises_received("augmented_input"):
        training.RegularizedModel(network(), layers.MixUp(), augmented_input=1.5)


def test_refuses_data_at_trace_time():
    x, y, _ = batch()
    with raises_received("shape"):
        augmented().augment(x[0], y)
    with raises_received("labels"):
        augmented().augment(x, y[:7])
    with raises_received("dtype='float32'", "outputs="):
        augmented().train_on_batch(x, y.astype("float32"))
    with pytest.raises(ValueError, match="float dtype"):
        augmented(augmentation=layers.MixUp(dtype="int32")).train_on_batch((x * 255).astype("uint8"), y)


class Standardized(keras.layers.Layer):
    """Makes tensors when it is built, as `Normalization` does."""

    def build(self, input_shape):
        self.mean = keras.ops.convert_to_tensor([1.0, 2.0, 3.0])

    def call(self, inputs):
        return (inputs - self.mean) / 2

    def compute_output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("where", ["step", "map"])
def test_keras_layers_that_are_built_by_their_first_batch(where):
    """Built in a traced step, the layer would keep tensors of that trace, and the next one would fail."""
    augmentation = layers.Pipeline([Standardized(), layers.MixUp()])
    x, y, _ = batch(8)
    if where == "step":
        augmented(augmentation=augmentation).fit(x, y, batch_size=4, verbose=0)
    else:
        tf = pytest.importorskip("tensorflow")
        if BACKEND != "tensorflow":
            pytest.skip("Keras' layer computes on tensors of its backend")
        next(iter(tf.data.Dataset.from_tensors(x).map(lambda x: augmentation(x, training=False))))
    assert_close(augmentation(x, training=False), (x - [1, 2, 3]) / 2, atol=1e-6)
