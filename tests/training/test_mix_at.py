"""`mix_at`: the network mixes the output of a layer instead of its inputs.

The reference is a matrix: plain `MixUp` with the same seed, applied to the rows of the identity, gives the share of
each sample in each mixed sample. The network before and after the layer is computed without the package.
"""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, gradients, only, raises_received, to_numpy
from keras import ops

from keras_reg import layers, training

CLASSES = 5
COUNT = 8
INPUT = "input_of_images"
CE = keras.losses.SparseCategoricalCrossentropy


def batch(count=COUNT):
    rng = np.random.default_rng(0)
    x = rng.random((count, 4, 3, 2), "float32")
    return x, rng.integers(0, CLASSES, count).astype("int32"), rng.random(count).astype("float32") + 0.5


def mixer(seed=7, alpha=0.8):
    return layers.MixUp(alpha, seed=seed)


class Records(keras.layers.Layer):
    """Keeps its last inputs."""

    def build(self, input_shape):
        self.seen = self.add_weight(shape=(input_shape[-1],) * 2, trainable=False, initializer="zeros")

    def call(self, inputs):
        self.seen.assign(inputs)
        return inputs

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


def shares(count=COUNT, steps=1, **options):
    """The mixing matrices (count, count) of successive training steps: what they make of the rows of the identity."""
    records, rows, found = Records(), np.eye(count, dtype="float32"), []
    model = training.RegularizedModel(
        keras.Sequential([keras.Input((count,)), records, keras.layers.Dense(1)]), mixer()
    )
    model.compile(keras.optimizers.SGD(0.0), "mse", **options)
    for _ in range(steps):
        model.train_on_batch(rows, rows[:, :1])
        found.append(np.array(to_numpy(records.seen)))
    return found


def compiled(net, mix_at=None, augmentation=None, optimizer=None, loss=None, parts=None, **options):
    model = training.RegularizedModel(net, augmentation or mixer(), mix_at=mix_at, **(parts or {}))
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss or CE(from_logits=True), **options)
    return model


def step(model, x, y):
    """The loss of one step. On Keras 3.10, the logs hold the mean since the last reset."""
    model.reset_metrics()
    return float(model.train_on_batch(x, y))


def losses_of(logits, labels):
    """Cross-entropies (batch, batch): of each row of logits and each label."""
    logits = logits - logits.max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -logs[:, labels]


def mixed_loss(logits, labels, share):
    return (share * losses_of(to_numpy(logits), labels)).sum() / len(labels)


def mixed_loss_tensor(logits, labels, share):
    return -ops.sum(ops.multiply(ops.take(ops.log_softmax(logits), labels, axis=1), share)) / len(labels)


# Networks, and what they compute if the output of the named layer is multiplied by a matrix.


def residual():
    """A layer that a shortcut goes around: networks before and after it cannot be cut apart."""
    inputs = keras.Input((4, 3, 2))
    flat = keras.layers.Flatten()(inputs)
    hidden = keras.layers.Dense(6, "tanh", name="hidden")(flat)
    branch = keras.layers.Dense(6, "tanh", name="branch")(hidden)
    net = keras.Model(inputs, keras.layers.Dense(CLASSES, name="head")(hidden + branch))

    def reference(x, share):
        hidden = net.get_layer("hidden")(x.reshape(len(x), -1))
        return net.get_layer("head")(hidden + ops.matmul(share, net.get_layer("branch")(hidden)))

    return net, "branch", reference


def sequential():
    parts = [keras.layers.Dense(6, "tanh", name="hidden"), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    net = keras.Sequential([keras.layers.InputLayer(shape=(4, 3, 2), name=INPUT), *parts])

    def reference(x, share):
        hidden = to_numpy(parts[0](x))
        mixed = np.einsum("ij,jhwc->ihwc", share, hidden)
        return parts[2](mixed.reshape(len(x), -1))

    return net, "hidden", reference


def nested(outer):
    """A layer within a network within a network."""
    parts = [keras.layers.Flatten(), keras.layers.Dense(6, "tanh", name="hidden"), keras.layers.Dense(4, "tanh")]
    inner = keras.Sequential([keras.Input((4, 3, 2)), *parts])
    if outer == "functional":
        given = keras.Input((4, 3, 2))
        inner = keras.Model(given, inner(keras.layers.Activation("tanh")(given)))
    head = keras.layers.Dense(CLASSES)
    net = keras.Sequential([keras.Input((4, 3, 2)), inner, head])

    def reference(x, share):
        x = np.tanh(x) if outer == "functional" else x
        return head(parts[2](ops.matmul(share, parts[1](x.reshape(len(x), -1)))))

    return net, "hidden", reference


def made(kind):
    keras.utils.set_random_seed(3)
    makers = {"residual": residual, "sequential": sequential}
    return makers[kind]() if kind in makers else nested(kind.split()[-1])


KINDS = ["residual", "sequential", "nested in sequential", "nested in functional"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_of_the_named_layer_is_mixed(kind):
    x, y, _ = batch()
    net, name, reference = made(kind)
    (share,) = shares()
    assert (share > 0.05).sum() > COUNT
    expected = mixed_loss(reference(x, share), y, share)
    assert abs(expected - mixed_loss(reference(x, np.eye(COUNT, dtype="float32")), y, share)) > 1e-4
    assert_close(compiled(net, name).train_on_batch(x, y), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["residual", "nested in functional"])
def test_gradients_are_those_of_the_mixed_network(kind):
    x, y, _ = batch()
    net, name, reference = made(kind)
    (share,) = shares()

    expected = gradients(lambda: mixed_loss_tensor(reference(x, share), y, share), net.trainable_variables)
    before = [to_numpy(weight) for weight in net.trainable_variables]
    compiled(net, name, optimizer=keras.optimizers.SGD(1.0)).train_on_batch(x, y)
    for old, new, gradient in zip(before, net.trainable_variables, expected, strict=True):
        assert_close(old - to_numpy(new), gradient, rtol=1e-4, atol=1e-6)
        assert np.abs(gradient).max() > 1e-3


def digits_like(dropout=0.0):
    keras.utils.set_random_seed(3)
    parts = [
        keras.layers.Conv2D(4, 2, activation="relu", name="conv"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Flatten(name="flat"),
        keras.layers.Dropout(dropout, seed=1),
        keras.layers.Dense(CLASSES, name="head"),
    ]
    return keras.Sequential([keras.Input((4, 3, 2), name="image"), *parts])


def trained(mix_at, net=None, epochs=2, count=COUNT, **options):
    x, y, w = batch(count)
    model = compiled(net or digits_like(0.3), mix_at, **options)
    history = model.fit(x, y, 4, epochs, 0, sample_weight=w, shuffle=False).history
    return [to_numpy(weight) for weight in model.model.weights], history


@pytest.mark.parametrize("kind", ["MixUp", "CutMix", "either", "in a pipeline"])
def test_an_input_name_is_plain_mixing(kind):
    def augmentation():
        mixers = {"MixUp": [layers.MixUp(0.8)], "CutMix": [layers.CutMix()]}
        choice = layers.RandomChoice([layers.MixUp(0.8), layers.CutMix()], mode="sample")
        parts = {"in a pipeline": [layers.RandomErasing(0.5), layers.RandomApply(choice, 0.7), layers.LabelNoise(0.2)]}
        parts["in a pipeline"][-1] = layers.LabelNoise(0.2, num_classes=CLASSES)
        return layers.Pipeline({**mixers, **parts}.get(kind, [choice]), seed=7)

    count = 9 if kind == "MixUp" else COUNT  # the last batch has one sample
    found = [trained(name, augmentation=augmentation(), count=count, epochs=1) for name in (None, "image")]
    assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_other_layers_give_other_weights():
    (first, _), (second, _) = trained("image", epochs=1), trained("flat", epochs=1)
    assert max(np.abs(a - b).max() for a, b in zip(first, second, strict=True)) > 1e-3


# The layer that a step draws.


@pytest.mark.parametrize("jit_compile", [False, True] if BACKEND == "tensorflow" else ["auto"])
def test_each_step_draws_one_of_the_layers(jit_compile):
    x, y, _ = batch()
    x = 5 * x
    net, name, reference = made("sequential")
    steps = 12
    model = compiled(net, [name, INPUT], optimizer=keras.optimizers.SGD(0.0), jit_compile=jit_compile)
    found = [step(model, x, y) for _ in range(steps)]
    drawn = []
    for loss, share in zip(found, shares(steps=steps, jit_compile=jit_compile), strict=True):
        at_hidden = mixed_loss(reference(x, share), y, share)
        at_input = mixed_loss(net(np.einsum("ij,jhwc->ihwc", share, x)), y, share)
        assert min(abs(loss - at_hidden), abs(loss - at_input)) < 1e-5 < 1e-4 < abs(at_hidden - at_input)
        drawn.append(abs(loss - at_hidden) < 1e-5)
    assert 2 <= sum(drawn) <= steps - 2
    again = compiled(net, [name, INPUT], optimizer=keras.optimizers.SGD(0.0), jit_compile=jit_compile)
    assert_close([step(again, x, y) for _ in range(steps)], found, rtol=1e-5)


def test_the_layers_are_equally_likely_and_independent_of_partners():
    x, y, _ = batch(3)
    net = digits_like()
    model = compiled(net, ["conv", "flat", "head"])
    plans = [model.augment(x, y)[0].plan for _ in range(200)]
    drawn = np.array([[(to_numpy(blend) < 1).any() for blend in plan["blends"]] for plan in plans])
    assert (drawn.sum(1) == 1).all()
    assert (np.abs(drawn.mean(0) - 1 / 3) < 4 * np.sqrt(2 / 9 / 200)).all()
    shifts = np.array([to_numpy(plan["partner"])[0] for plan in plans])
    assert abs(np.corrcoef(shifts, drawn[:, 0])[0, 1]) < 4 / np.sqrt(200)


@only("tensorflow", "jax", why="PyTorch takes one step per call")
def test_several_steps_in_one_call_draw_anew():
    one, _ = trained(["conv", "flat"], epochs=4)
    several, _ = trained(["conv", "flat"], epochs=4, steps_per_execution=3)
    assert_close(several, one, rtol=1e-5, atol=1e-6)


# Other augmentations, masks, ids and tables.


class AddsOne(layers.BatchAugmentation):
    moves_pixels = False

    def transform_images(self, images, transformation, batch):
        return images + 1


@pytest.mark.parametrize("order", [0, 1])
def test_other_layers_act_on_the_inputs(order):
    x, y, _ = batch()
    parts = [mixer(), AddsOne(seed=1)] if order else [AddsOne(seed=1), mixer()]
    model = compiled(made("sequential")[0], "hidden", layers.Pipeline(parts, seed=1))
    inputs, labels, _ = model.augment(x, y)
    assert_close(inputs.inputs, x + 1)
    assert (to_numpy(labels.weights)[:, 1] > 0.01).any()
    assert np.isfinite(model.train_on_batch(x, y))


def test_token_ids_are_mixed_at_their_embedding_and_masks_are_united():
    """Ids stay integers, also large ones. A step counts where either partner has a token."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(1)
    ids = rng.integers(4000, 5000, (COUNT, 6)).astype("int32")
    length = rng.integers(2, 7, COUNT)
    present = np.arange(6) < length[:, None]
    ids[~present] = 0
    y = batch()[1]
    embedding, head = keras.layers.Embedding(5000, 4, mask_zero=True, name="embedding"), keras.layers.Dense(CLASSES)
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    net = keras.Model(tokens, head(keras.layers.GlobalAveragePooling1D()(embedding(tokens))))
    (share,) = shares()
    united = (share @ present) > 0
    assert (united != present).any()
    mixed = np.einsum("ij,jtc->itc", share, to_numpy(embedding(ids)))
    pooled = (mixed * united[..., None]).sum(1) / united.sum(1, keepdims=True)
    model = compiled(net, "embedding")
    inputs = to_numpy(model.augment(ids, y)[0].inputs)
    assert inputs.dtype == "int32" and (inputs == ids).all()
    expected = mixed_loss(head(pooled), y, share)
    assert_close(compiled(net, "embedding").train_on_batch(ids, y), expected, rtol=1e-5)


def table():
    keras.utils.set_random_seed(0)
    numbers, kind = keras.Input((3,), name="numbers"), keras.Input((), dtype="int32", name="kind")
    embedded = keras.layers.Embedding(9, 2, name="embedding")(kind)
    features = keras.layers.Concatenate(name="features")([numbers, embedded])
    return keras.Model({"numbers": numbers, "kind": kind}, keras.layers.Dense(CLASSES, name="head")(features))


def test_tables_are_mixed_where_their_columns_meet():
    _, y, _ = batch()
    rng = np.random.default_rng(0)
    x = {"numbers": rng.random((COUNT, 3), "float32"), "kind": rng.integers(0, 9, COUNT).astype("int32")}
    net = table()
    features = np.concatenate([x["numbers"], to_numpy(net.get_layer("embedding")(x["kind"]))], axis=1)
    (share,) = shares()
    expected = mixed_loss(net.get_layer("head")(share @ features), y, share)
    assert_close(compiled(net, "features").train_on_batch(x, y), expected, rtol=1e-5)


def test_one_input_is_augmented_and_the_features_of_all_are_mixed():
    x, y, _ = batch()
    image, size = keras.Input((4, 3, 2), name="image"), keras.Input((2,), name="size")
    features = keras.layers.Concatenate(name="features")([keras.layers.Flatten()(image), size])
    net = keras.Model([image, size], keras.layers.Dense(CLASSES)(features))
    augmentation = layers.Pipeline([AddsOne(seed=1), mixer()], seed=7)
    model = training.RegularizedModel(net, augmentation, augmented_input="image", mix_at="features")
    model.compile("sgd", CE(from_logits=True))
    inputs = [x, np.ones((COUNT, 2), "float32")]
    assert_close(model.augment(inputs, y)[0].inputs, [x + 1, inputs[1]])
    assert np.isfinite(model.train_on_batch(inputs, y))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_cut_mix_pastes_activations_and_their_area_is_the_share(data_format):
    x, y, _ = batch()
    shape = (4, 6, 1) if data_format == "channels_last" else (1, 4, 6)
    net = keras.Sequential([keras.Input((4, 3, 2)), keras.layers.Reshape(shape, name="map"), keras.layers.Flatten()])
    cut = layers.CutMix(seed=2, data_format=data_format)
    model = training.RegularizedModel(net, cut, mix_at="map")
    inputs, labels, _ = model.augment(x, y)
    assert_close(inputs.inputs, x)
    own, partner = x.reshape(COUNT, 4, 6), to_numpy(inputs.plan["partner"])
    top, left, height, width = map(to_numpy, inputs.plan["boxes"][0])
    rows, columns = np.arange(4)[:, None], np.arange(6)
    area = 0
    for i, found in enumerate(to_numpy(model(inputs, training=True)).reshape(COUNT, 4, 6)):
        inside = (rows >= top[i]) & (rows < top[i] + height[i]) & (columns >= left[i]) & (columns < left[i] + width[i])
        assert_close(found, np.where(inside, own[partner[i]], own[i]))
        assert_close(to_numpy(labels.weights)[i, 1], inside.mean(), atol=1e-6)
        area += inside.sum()
    assert area > 10


# Together with other parts.


def test_weights_of_samples_and_several_outputs():
    x, y, w = batch()
    keras.utils.set_random_seed(1)
    image = keras.Input((4, 3, 2))
    hidden = keras.layers.Dense(6, "tanh", name="hidden")(keras.layers.Flatten()(image))
    heads = {"kind": keras.layers.Dense(CLASSES, name="kind"), "age": keras.layers.Dense(1, name="age")}
    net = keras.Model(image, {name: head(hidden) for name, head in heads.items()})
    model = compiled(net, "hidden", loss={"kind": CE(from_logits=True), "age": "mse"}, metrics={"kind": ["accuracy"]})
    (share,) = shares()
    mixed = share @ to_numpy(net.get_layer("hidden")(x.reshape(COUNT, -1)))
    kinds = (share * losses_of(to_numpy(heads["kind"](mixed)), y)).sum(1)
    ages = (to_numpy(heads["age"](mixed)) - share @ w[:, None])[:, 0] ** 2
    weights = share @ np.linspace(0.5, 2, COUNT).astype("float32")
    found = model.train_on_batch(x, {"kind": y, "age": w[:, None]}, np.linspace(0.5, 2, COUNT).astype("float32"))
    assert_close(found[0], (weights * (kinds + ages)).mean(), rtol=1e-5)


def test_the_second_pass_of_sharpness_mixes_alike():
    """A step by hand: the gradient of the mixed loss at weights that the gradient of the same mixture has moved."""
    x, y, _ = batch()
    net, name, reference = made("residual")
    (share,) = shares()
    weights = net.trainable_variables
    before = [to_numpy(weight) for weight in weights]

    def gradients_at(values):
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)
        return gradients(lambda: mixed_loss_tensor(reference(x, share), y, share), weights)

    first = gradients_at(before)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in first))
    second = gradients_at([value + gradient / norm for value, gradient in zip(before, first, strict=True)])
    for weight, value in zip(weights, before, strict=True):
        weight.assign(value)
    model = compiled(
        net, [name], optimizer=keras.optimizers.SGD(1.0), parts={"sharpness": training.SharpnessAware(1.0)}
    )
    model.train_on_batch(x, y)
    for weight, value, gradient in zip(weights, before, second, strict=True):
        assert_close(to_numpy(weight), value - gradient, rtol=1e-4, atol=1e-5)


class Repeats(training.Penalty):
    """The largest difference between the outputs of the step and those of a further pass."""

    def compute(self, step, x, y, y_pred, sample_weight):
        return ops.max(ops.abs(step.run(x) - y_pred))


def test_further_passes_of_penalties_mix_alike():
    x, y, _ = batch()
    net, name, reference = made("residual")
    (share,) = shares()
    logs = to_numpy(ops.log_softmax(reference(x, share)))
    entropy = training.ConfidencePenalty(0.1)
    model = compiled(net, [name], parts={"penalties": [Repeats(1.0), entropy]})
    found = dict(zip(model.metrics_names, model.train_on_batch(x, y), strict=False)) and model.get_metrics_result()
    assert float(to_numpy(found["repeats"])) < 1e-6
    assert_close(found["confidence_penalty"], (np.exp(logs) * logs).sum(-1).mean(), rtol=1e-4)


def test_all_parts_together():
    parts = [training.VirtualAdversarial(0.5, seed=1), training.ConsistentDropout(), training.ConfidencePenalty(0.1)]
    parts = {"penalties": parts, "sharpness": training.SharpnessAware(0.05)}
    _, history = trained(["conv", "flat", "image"], epochs=1, parts=parts)
    assert all(np.isfinite(values).all() for values in history.values())
    assert {"virtual_adversarial", "consistent_dropout", "confidence_penalty"} <= set(history)


# Precision, compilers, accumulation, sizes of batches, saving.


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_low_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        plain, found = (trained(name, digits_like(), epochs=1)[1]["loss"] for name in (None, ["image"]))
        assert_close(found, plain, rtol=2e-2)
    finally:
        keras.config.set_dtype_policy("float32")


def test_accumulated_gradients():
    def optimizer():
        return keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)

    (plain, _), (found, _) = (trained(name, epochs=1, optimizer=optimizer()) for name in (None, "image"))
    assert_close(found, plain, rtol=1e-5, atol=1e-6)


def test_a_batch_of_one_is_not_mixed():
    x, y, _ = batch(1)
    net, name, _ = made("sequential")
    expected = losses_of(to_numpy(net(x)), y)[0, 0]
    assert_close(compiled(net, [name, INPUT]).train_on_batch(x, y), expected, rtol=1e-5)


def test_a_custom_loop():
    """Inputs and labels from `augment` go through the model, as inputs and labels do."""
    x, y, w = batch()
    net, name, reference = made("residual")
    model = compiled(net, name, metrics=["accuracy"], parts={"penalties": [Repeats(1.0)]})
    mixed, labels, weights = model.augment(x, y, w)
    plain = training.RegularizedModel(keras.Sequential([keras.Input((COUNT,)), keras.layers.Dense(1)]), mixer())
    share = to_numpy(plain.augment(np.eye(COUNT, dtype="float32"))[0])
    logits = to_numpy(reference(x, share))
    expected = ((share * losses_of(logits, y)).sum(1) * (share @ w)).mean()
    values = ([v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables])
    y_pred = model.stateless_call(*values, mixed, training=True)[0] if BACKEND == "jax" else model(mixed, training=True)
    loss = model.compute_loss(mixed, labels, y_pred, weights)
    assert_close(loss, expected, rtol=1e-5)  # the penalty is 0: its pass mixes alike
    accuracy = to_numpy(model.compute_metrics(mixed, labels, y_pred, weights)["accuracy"])
    assert_close(accuracy, (logits.argmax(1) == y[share.argmax(1)]).mean(), rtol=1e-5)
    assert_close(y_pred, logits, rtol=1e-5, atol=1e-5)
    assert_close(model(x, training=True), net(x))


def test_evaluation_and_prediction_do_not_mix():
    x, y, w = batch()
    net = digits_like()
    model = compiled(net, ["conv", "flat"], metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    assert_close(model.predict(x, verbose=0), net.predict(x, verbose=0))
    net.compile(loss=CE(from_logits=True), metrics=["accuracy"])
    assert_close(model.evaluate(x, y, sample_weight=w, verbose=0), net.evaluate(x, y, sample_weight=w, verbose=0))


def test_the_network_stays_as_it_was(tmp_path):
    """Its layers get further calls, but neither its config, nor its weights, nor its file shows them."""
    net, name, _ = made("nested in functional")
    config, count = net.get_config(), len(net.weights)
    model = compiled(net, name)
    model.train_on_batch(*batch()[:2])
    assert net.get_config() == config and len(net.weights) == len(model.model.weights) == count
    net.save(tmp_path / "net.keras")
    x = batch()[0]
    assert_close(keras.saving.load_model(tmp_path / "net.keras")(x), net(x))


@pytest.mark.parametrize("mix_at", ["conv", ["flat", "image"]])
def test_it_is_saved_and_loaded(tmp_path, mix_at):
    x, y, _ = batch()
    model = compiled(digits_like(), mix_at)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.mix_at == mix_at
    for _ in range(3):
        assert_close(step(again, x, y), step(model, x, y), rtol=1e-5)


def test_frozen_layers_stay_frozen():
    net = digits_like()
    net.get_layer("conv").trainable = False
    before = to_numpy(net.get_layer("conv").kernel)
    model = compiled(net, ["conv", "flat"])
    model.fit(*batch()[:2], verbose=0)
    assert not net.get_layer("conv").trainable and (to_numpy(net.get_layer("conv").kernel) == before).all()


def test_a_sequential_network_without_input_is_built_by_the_first_batch():
    x, y, _ = batch()
    keras.utils.set_random_seed(3)
    net = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(4, "tanh", name="hidden"), keras.layers.Dense(5)]
    )
    model = compiled(net, "hidden")
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()
    (share,) = shares()
    mixed = share @ to_numpy(net.layers[1](x.reshape(COUNT, -1)))
    expected = mixed_loss(net.layers[2](mixed), y, share)
    assert_close(compiled(net, "hidden").train_on_batch(x, y), expected, rtol=1e-5)


# What is refused.


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(CLASSES, name="hidden")

    def call(self, inputs):
        return self.dense(inputs)


class OwnCall(keras.Model):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


def own_call():
    inputs = keras.Input((4, 3, 2))
    return OwnCall(inputs, keras.layers.Dense(CLASSES, name="hidden")(inputs))


def two_towers():
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    towers = [keras.layers.Dense(3, name=f"tower_{i}")(x) for i, x in enumerate((first, second))]
    return keras.Model([first, second], keras.layers.Concatenate()(towers))


def two_heads():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    return keras.Model(inputs, [keras.layers.Dense(2, name="main")(hidden), keras.layers.Dense(2, name="aux")(inputs)])


def twice():
    inputs = keras.Input((4,))
    again = keras.layers.Dense(4, name="again")
    return keras.Model(inputs, again(again(inputs)))


def ambiguous():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="same")], name="inner")
    return keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(4, name="same")])


def tokens():
    ids = keras.Input((6,), dtype="int32", name="ids")
    return keras.Model(ids, keras.layers.Embedding(9, 4, name="embedding")(ids))


def test_an_input_without_a_name_has_that_of_its_layer():
    inputs = keras.Input((4,))
    net = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    (name,) = [layer.name for layer in net.layers if isinstance(layer, keras.layers.InputLayer)]
    training.RegularizedModel(net, mixer(), mix_at=name)


REFUSED = {
    "no such layer": (digits_like, "cnov", None),
    "no name": (digits_like, [], None),
    "a number": (digits_like, 1, None),
    "a name twice": (digits_like, ["conv", "conv"], None),
    "no mixer": (digits_like, "conv", lambda: layers.RandomErasing()),
    "two mixers": (digits_like, "conv", lambda: layers.Pipeline([layers.MixUp(), layers.CutMix()])),
    "mixers to choose from, and others": (
        digits_like,
        "conv",
        lambda: layers.RandomChoice([layers.MixUp(), layers.CutMix(), layers.RandomErasing()]),
    ),
    "subclassed": (Subclassed, "hidden", None),
    "a call of its own": (own_call, "hidden", None),
    "around an input": (two_towers, "tower_0", None),
    "one of two inputs": (two_towers, "first", None),
    "around an output": (two_heads, "hidden", None),
    "on its own output": (twice, "again", None),
    "ambiguous": (ambiguous, "same", None),
    "integers": (tokens, "ids", None),
    "cuts features": (digits_like, "flat", lambda: layers.CutMix()),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_refuses(wrong):
    make, mix_at, augmentation = REFUSED[wrong]
    with raises_received("model" if wrong in ("subclassed", "a call of its own") else "mix_at"):
        training.RegularizedModel(make(), augmentation() if augmentation else mixer(), mix_at=mix_at)


def test_needs_an_augmentation():
    with raises_received("mix_at"):
        training.RegularizedModel(digits_like(), mix_at="conv")


def test_refuses_to_cut_activations_where_labels_have_positions():
    x, _, _ = batch()
    net = keras.Sequential([keras.Input((4, 3, 2)), keras.layers.Conv2D(CLASSES, 1, name="conv")])
    model = compiled(net, "conv", layers.CutMix())
    with raises_received("shapes"):
        model.augment(x, np.zeros((COUNT, 4, 3), "int32"))
    assert np.isfinite(compiled(net, "conv").train_on_batch(x, np.zeros((COUNT, 4, 3), "int32")))
