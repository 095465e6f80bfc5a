"""Models with an output of maps and an output of classes, through `fit` and `evaluate`, against NumPy."""

import itertools

import keras
import numpy as np
import pytest
from harness import assert_close, fewer, raises_received, to_numpy

from keras_reg import layers, losses, training

BATCH, SIZE, CLASSES, SMOOTHING = 5, 5, 3, 0.1
REDUCTIONS = ["sum", "sum_over_batch_size", "mean_with_sample_weight"]


def scenes():
    """Returns logits that float16 represents, a map and a class per sample, weights of samples, and of pixels."""
    rng = np.random.default_rng(0)
    logits = np.round(rng.normal(size=(BATCH, SIZE, SIZE, CLASSES)) * 8).astype("float32") / 8
    maps, kinds = rng.integers(0, CLASSES, (BATCH, SIZE, SIZE)), rng.integers(0, CLASSES, BATCH)
    weights = np.arange(1.0, BATCH + 1).astype("float32")
    return logits, maps, kinds, weights, rng.uniform(size=maps.shape).astype("float32")


def named(form, maps, kinds):
    return {"map": maps, "kind": kinds} if form is dict else [maps, kinds]


def identity(inputs):
    return keras.layers.Dense(CLASSES, use_bias=False, kernel_initializer="identity", name="map", dtype="float32")(
        inputs
    )


def compiled(form, reduction, augmentation=None, given=dict, shares=(0.5, 2.0), smoothing=SMOOTHING):
    """Returns a model whose outputs are its inputs and their mean over the pixels, which does not learn."""
    inputs = keras.Input((SIZE, SIZE, CLASSES))
    maps = identity(inputs)
    kinds = keras.layers.GlobalAveragePooling2D(name="kind", dtype="float32")(maps)
    model = training.RegularizedModel(keras.Model(inputs, named(form, maps, kinds)), augmentation)
    of_each = [losses.LabelSmoothingCrossentropy(smoothing, from_logits=True, reduction=reduction) for _ in range(2)]
    loss, parts = named(given, *of_each), named(given, *shares)
    metrics = named(given, ["acc"], ["acc"])
    model.compile(keras.optimizers.SGD(0.0), loss, loss_weights=parts, weighted_metrics=metrics)
    return model


def crossentropies(logits, ids, smoothing=SMOOTHING):
    """Returns the smoothed losses of all elements, by NumPy."""
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = (1 - smoothing) * np.eye(CLASSES)[ids] + smoothing / CLASSES
    return -(targets * logs).sum(-1)


def reduced(values, weights, reduction):
    """Returns the sum of values times weights, divided as the reduction says."""
    weights = np.broadcast_to(
        np.reshape(weights, np.shape(weights) + (1,) * (values.ndim - np.ndim(weights))), values.shape
    )
    return (values * weights).sum() / {"sum": 1, "sum_over_batch_size": values.size}.get(reduction, weights.sum())


def over_batches(logits, maps, kinds, of_maps, of_kinds, reduction, size):
    """Returns what Keras logs: the loss of each output, and their weighted sum, averaged over all samples."""
    found = np.zeros(3)
    for start in range(0, BATCH, size):
        part = slice(start, start + size)
        map_loss = reduced(crossentropies(logits[part], maps[part]), of_maps[part], reduction)
        kind_loss = reduced(crossentropies(logits[part].mean((1, 2)), kinds[part]), of_kinds[part], reduction)
        count = len(logits[part])
        found += np.multiply([map_loss, kind_loss, 0.5 * map_loss + 2 * kind_loss], count / BATCH)
    return dict(zip(("map_loss", "kind_loss", "loss"), found, strict=True))


@pytest.fixture
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def cases(*options):
    """Returns all pairs of the first two options, each with values of the others in turn."""
    pairs = itertools.product(*options[:2])
    return list(zip(*zip(*pairs, strict=True), *map(itertools.cycle, options[2:]), strict=False))


FORMS = [(dict, dict), (list, list), (list, dict)]
POLICIES = ["float32", "mixed_float16"]
LOSSES = cases(FORMS, [None, "one array", "samples", "pixels"], REDUCTIONS, [*POLICIES, *POLICIES[::-1], POLICIES[0]])


@pytest.mark.parametrize(
    ("forms", "weighted", "reduction", "policy"),
    fewer(LOSSES, LOSSES[::4]),
    indirect=["policy"],
)
def test_losses_of_both_outputs(forms, weighted, reduction, policy, tmp_path):
    """The last batch has one sample. A compiled model that was saved and loaded logs the same."""
    logits, maps, kinds, weights, of_pixels = scenes()
    of_maps = {None: np.ones(BATCH), "pixels": of_pixels}.get(weighted, weights)
    of_kinds = np.ones(BATCH) if weighted is None else weights
    given = None if weighted is None else weights if weighted == "one array" else named(forms[1], of_maps, weights)
    model = compiled(forms[0], reduction, given=forms[1])
    data = logits, named(forms[1], maps, kinds)
    expected = over_batches(logits, maps, kinds, of_maps, of_kinds, reduction, size=2)
    for _ in range(2):
        fitted = model.fit(*data, sample_weight=given, batch_size=2, shuffle=False, verbose=0).history
        evaluated = model.evaluate(*data, sample_weight=given, batch_size=2, verbose=0, return_dict=True)
        # For the loss of each output, Keras on TensorFlow counts a smaller last batch like the others.
        for name in ["loss"] if keras.backend.backend() == "tensorflow" else expected:
            assert_close([fitted[name][0], evaluated[name]], [expected[name]] * 2, rtol=1e-5)
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("reduction", "mixer", "form", "weighted", "policy"),
    cases(
        REDUCTIONS,
        [layers.MixUp, layers.CutMix],
        [dict, dict, list],
        [True, False, True, True],
        [*POLICIES, *POLICIES[::-1], POLICIES[0]],
    ),
    indirect=["policy"],
)
def test_losses_of_mixed_maps_and_classes(reduction, mixer, form, weighted, policy):
    """An equal model draws the same mixture, of which NumPy computes the loss."""
    logits, maps, kinds, weights, of_pixels = scenes()
    y, given = named(form, maps, kinds), named(form, of_pixels, weights) if weighted else None
    twin, model = (compiled(form, reduction, mixer(1.0, seed=1), given=form) for _ in range(2))
    x, mixture, mixed_weights = twin.augment(logits, y, given)
    x, rows = to_numpy(x).astype("float32"), to_numpy(mixture.weights)
    found = {}
    for name, key, outputs in (("map", 0, x), ("kind", 1, x.mean((1, 2)))):
        key = name if form is dict else key
        own = to_numpy(mixed_weights[key]) if weighted else np.ones(outputs.shape[:-1])
        total = count = 0.0
        for term, labels in enumerate(mixture.labels):
            ids = to_numpy(labels[key])
            share = rows[:, term] if rows.ndim == 2 else rows
            share = own * np.reshape(share, (-1,) + (1,) * (own.ndim - 1))
            total, count = total + (crossentropies(outputs, ids) * share).sum(), count + share.sum()
        found[name] = total / {"sum": 1, "sum_over_batch_size": own.size}.get(reduction, count)
    model.run_eagerly = keras.backend.backend() == "tensorflow"  # whose graphs draw other numbers than `augment` here
    history = model.fit(logits, y, sample_weight=given, batch_size=BATCH, shuffle=False, verbose=0).history
    expected = [found["map"], found["kind"], 0.5 * found["map"] + 2 * found["kind"]]
    assert_close([history[name][0] for name in ("map_loss", "kind_loss", "loss")], expected, rtol=1e-4)


def of_one_output(shape, loss):
    inputs = keras.Input(shape)
    model = training.RegularizedModel(keras.Model(inputs, identity(inputs)))
    model.compile(keras.optimizers.SGD(0.0), loss)
    return model


@pytest.mark.parametrize("steps", [False, True])
def test_class_weight_of_fit_is_refused_for_labels_of_elements(steps):
    """Keras would read labels (batch, steps) as one-hot rows. The weights of a loss count for each element."""
    logits, maps, *_ = scenes()
    logits, maps = (logits[:, 0], maps[:, 0]) if steps else (logits, maps)
    weights = {0: 1.0, 1: 2.0, 2: 3.0}
    model = of_one_output(logits.shape[1:], keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for y in (maps, maps[..., None], np.eye(CLASSES, dtype="float32")[maps]):
        for call in (model.fit, model.train_on_batch):
            with raises_received("`class_weight` of `keras_reg.losses.LabelSmoothingCrossentropy`", str(y.shape)):
                call(logits, y, class_weight=weights)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return logits, maps

    with raises_received("class_weight"):
        model.fit(Batches(), class_weight=weights)
    loss = losses.LabelSmoothingCrossentropy(0.0, from_logits=True, class_weight=weights)
    found = of_one_output(logits.shape[1:], loss).fit(logits, maps, verbose=0).history["loss"]
    assert_close(found, [(crossentropies(logits, maps, 0.0) * (maps + 1)).mean()], rtol=1e-5)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", losses.LabelSmoothingCrossentropy(0.1, True)])
@pytest.mark.parametrize("key", [CLASSES, -1, "0", 0.5])
def test_class_weight_of_fit_is_refused_for_what_is_no_class(loss, key):
    """Keras would ignore it without a message."""
    logits, _, kinds, *_ = scenes()
    model = of_one_output((CLASSES,), loss)
    for call in (model.fit, model.train_on_batch):
        with raises_received("class_weight", f"from 0 to {CLASSES - 1}", f"unknown=[{key!r}]"):
            call(logits[:, 0, 0], kinds, class_weight={0: 1.0, key: 2.0})


def test_class_weight_of_fit_may_have_ignored_classes_and_those_of_embeddings():
    logits, _, kinds, *_ = scenes()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    of_one_output((CLASSES,), loss).fit(logits[:, 0, 0], kinds, class_weight={-1: 0.0}, verbose=0)
    embedding = of_one_output((CLASSES,), lambda y, x: keras.ops.sum(x, -1))
    embedding.fit(logits[:, 0, 0], kinds, class_weight={CLASSES + 4: 2.0}, verbose=0)


def test_class_weight_of_fit_is_refused_for_other_data_of_one_output():
    logits, _, kinds, *_ = scenes()
    logits, weights = logits[:, 0, 0], {0: 1.0, 1: 2.0, 2: 3.0}
    model = of_one_output((CLASSES,), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with raises_received("class_weight", "sample_weight='ndarray'"):
        model.fit(logits, kinds, sample_weight=np.ones(len(kinds)), class_weight=weights)
    with raises_received("class_weight", "one array"):
        model.fit(logits, [kinds], class_weight=weights)
    with raises_received("class_weight", "dict"):
        model.fit(logits, kinds, class_weight=[1.0, 2.0, 3.0])


def test_class_weight_of_fit_weights_samples_of_one_class():
    logits, _, kinds, *_ = scenes()
    loss, logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True), logits[:, 0, 0]
    expected = (crossentropies(logits, kinds, 0.0) * (kinds + 1)).mean()
    for y in (kinds, kinds[:, None]):
        found = of_one_output((CLASSES,), loss).fit(logits, y, class_weight={0: 1.0, 1: 2.0, 2: 3.0}, verbose=0)
        assert_close(found.history["loss"], [expected], rtol=1e-5)
