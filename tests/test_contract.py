"""What holds for every public class, tried on each row of `cases.py`."""

import functools
import inspect
import json
import pathlib
import pickle
import tempfile

import keras
import numpy as np
import pytest
from cases import CASES, CLASSES, FORMS, HEIGHT, WIDTH, cases, classes, data, images, name
from harness import (
    BACKEND,
    assert_close,
    dtype_of,
    jit,
    map_in_tf_data,
    only,
    public_objects,
    raises_received,
    run_in_fresh_process,
    to_numpy,
)
from keras import ops, tree

pytestmark = pytest.mark.usefixtures("optimized_graphs")

SERIALIZABLE = ("batch_augmentation", "layer", "loss", "model", "inference", "value")
# A full batch, a last partial one, and one sample. What is compiled for each shape has no use for three.
BATCHES = (8, 1) if BACKEND == "jax" else (8, 3, 1)


def each(*kinds):
    return pytest.mark.parametrize("case", cases(*kinds), ids=name)


def random_cases(*kinds):
    return pytest.mark.parametrize("case", [case for case in cases(*kinds) if case.random], ids=name)


# The table.


def test_every_public_class_has_a_row():
    classes_in_table = {case.cls for case in CASES}
    public = {name: value for name, value in public_objects().items() if inspect.isclass(value)}
    assert not [name for name, value in public.items() if value not in classes_in_table]


def test_every_row_has_its_own_name():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


# Configs and arguments.


def config_of(instance):
    """The whole serialized form, as it stands in a `.keras` file."""
    return json.loads(json.dumps(keras.saving.serialize_keras_object(instance)))


@each(*SERIALIZABLE)
def test_registered_under_the_package(case):
    assert keras.saving.get_registered_name(case.cls) == f"keras_reg>{case.cls.__name__}"


@each(*SERIALIZABLE)
def test_config_round_trip(case):
    instance = case.make()
    again = keras.saving.deserialize_keras_object(config_of(instance))
    assert type(again) is case.cls
    assert config_of(again)["config"] == config_of(instance)["config"]


@each(*SERIALIZABLE)
def test_config_holds_every_argument(case):
    """And no argument that the constructor does not take."""
    config = case.make().get_config()
    assert not set(case.given()) - set(config)
    if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(case.cls.__init__).parameters.values()):
        assert not set(config) - case.takes


@each(*SERIALIZABLE)
def test_arguments_are_stored_unchanged(case):
    given = case.given()
    instance = case.cls(**given)
    for argument, value in given.items():
        stored = getattr(instance, argument)
        assert stored is value or stored == value, argument


@pytest.mark.parametrize(
    ("case", "bad"),
    [
        pytest.param(case, bad, id=f"{case.name}-{number}-{'-'.join(bad)}")
        for case in CASES
        for number, bad in enumerate(case.bad)
    ],
)
def test_bad_arguments(case, bad):
    with raises_received(*bad):
        case.make(**bad)


# Batch augmentations.


def form_of(case):
    """(images, labels) where the class takes them."""
    return "pair" if "pair" in case.forms else case.forms[0]


@functools.cache
def eager_shapes(case_name, count):
    """The shapes that an eager call returns for a batch of `count`, from one call for 8."""
    case = next(case for case in CASES if case.name == case_name)
    return [(count, *x.shape[1:]) for x in tree.flatten(case.make()(data(form_of(case), 8)))]


def assert_shapes_and_finite(outputs, case, count):
    outputs = [to_numpy(x) for x in tree.flatten(outputs)]
    assert [x.shape for x in outputs] == eager_shapes(case.name, count)
    assert all(np.isfinite(x.astype("float32")).all() for x in outputs)


@pytest.mark.parametrize("form", FORMS)
@each("batch_augmentation")
def test_structure_is_kept_and_the_input_left_alone(case, form):
    if form not in case.forms:
        pytest.skip("the class does not take this form")
    batch = data(form, 8)
    before = pickle.dumps(batch)
    outputs = case.make()(batch)
    assert pickle.dumps(batch) == before
    assert type(outputs) is type(batch) or form == "images"
    assert to_numpy(outputs) is not None
    if form == "dict":
        assert list(outputs) == list(batch)
    elif form != "images":
        assert len(outputs) == len(batch)


@pytest.mark.parametrize("form", FORMS)
@each("batch_augmentation")
def test_inference_is_the_identity(case, form):
    if form not in case.forms:
        pytest.skip("the class does not take this form")
    batch = data(form, 8)
    outputs = to_numpy(case.make()(batch, training=False))
    tree.assert_same_structure(outputs, batch)
    for actual, expected in zip(tree.flatten(outputs), tree.flatten(batch), strict=True):
        np.testing.assert_array_equal(actual, expected)


@each("batch_augmentation")
def test_eager_and_symbolic_agree_on_shapes_and_dtypes(case):
    batch = data(form_of(case), 8)
    eager = case.make()(batch)
    symbolic = case.make()(tree.map_structure(lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype.name), batch))
    dynamic = case.make()(tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), batch))
    for e, s, d in zip(tree.flatten(eager), tree.flatten(symbolic), tree.flatten(dynamic), strict=True):
        assert tuple(e.shape) == tuple(s.shape)
        assert (None, *e.shape[1:]) == tuple(d.shape)
        assert dtype_of(e) == dtype_of(s) == dtype_of(d)


@each("batch_augmentation")
def test_policies_of_batch_augmentations(case, dtype_policy):
    """Images come back in the compute dtype; labels and weights keep theirs or are float32."""
    if dtype_policy not in case.policies:
        pytest.skip("the class does not work under this policy")
    form = case.forms[-1]
    layer = case.make()
    outputs = layer(data(form, 8))
    assert np.isfinite(to_numpy(tree.flatten(outputs)[0])).all()
    if form == "dict":
        assert dtype_of(outputs["images"]) == layer.compute_dtype
        assert dtype_of(outputs["sample_weights"]) == "float32"
        assert dtype_of(outputs["labels"]) in ("int32", "float32")


def channels_first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x


@each("batch_augmentation")
def test_layouts_of_batch_augmentations_agree(case):
    """One seed does the same to a batch in either layout."""
    if case.channels_first_arguments is None:
        pytest.skip("the class has no layout")
    batch = data(case.forms[-1], 8)
    last = to_numpy(case.make()(batch))
    first = to_numpy(case.make(**case.channels_first_arguments)(tree.map_structure(channels_first, batch)))
    assert_close(first, tree.map_structure(channels_first, last), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=only("tensorflow"))])
@each("batch_augmentation")
def test_compiled_batch_augmentation(case, xla):
    """Full, partial and single batches through the compiled layer, of unknown size where the backend has that."""
    layer = case.make()
    compiled = jit(lambda batch: layer(batch), layer, xla=xla, dynamic_batch=not xla)
    for count in BATCHES[: 1 if xla else None]:
        batch = tree.map_structure(ops.convert_to_tensor, data(form_of(case), count))
        assert_shapes_and_finite(compiled(batch), case, count)


@each("batch_augmentation")
def test_batch_augmentation_in_tf_data(case):
    """A map over 17 samples in batches of 8: unknown batch size, and a last batch of one. On every backend."""
    found = map_in_tf_data(case.make(), data(form_of(case), 17), batch_size=8)
    assert len(found) == 3
    for count, outputs in zip((8, 8, 1), found, strict=True):
        assert_shapes_and_finite(outputs, case, count)


# Randomness.


def run(case, instance, training=True):
    inputs = data(case.forms[-1], 8) if case.kind == "batch_augmentation" else tensors(case.inputs(8))
    return to_numpy(instance(inputs, training=training))


@random_cases("batch_augmentation", "layer")
def test_one_seed_repeats_and_calls_differ(case):
    if "seed" not in case.takes:
        pytest.skip("the class has no seed")
    first, second = case.make(seed=7), case.make(seed=7)
    with_same_weights(first, second, case)
    one, two = run(case, first), run(case, first)
    assert not same(one, two)
    assert same(one, run(case, second)) and same(two, run(case, second))
    other = case.make(seed=8)
    with_same_weights(first, other, case)
    assert not same(one, run(case, other))


def with_same_weights(first, second, case):
    if case.kind == "layer":
        build(first, case), build(second, case)
        second.set_weights(first.get_weights())


def same(first, second):
    return all(
        np.array_equal(a, b) for a, b in zip(tree.flatten(first), tree.flatten(second), strict=True) if a is not None
    )


# Layers.


def tensors(inputs):
    return tree.map_structure(ops.convert_to_tensor, inputs)


def shape_of(inputs):
    return tree.map_structure(lambda x: tuple(x.shape), inputs)


def build(layer, case):
    if not layer.built:
        layer.build(shape_of(case.inputs(8)))


def model_of(case, **overrides):
    inputs = keras.Input(case.inputs(1).shape[1:])
    return keras.Model(inputs, case.make(**overrides)(inputs))


@each("layer")
def test_eager_symbolic_and_computed_shapes_agree(case):
    x = case.inputs(8)
    eager = tuple(case.make()(x, training=True).shape)
    assert tuple(case.make()(x, training=False).shape) == eager
    assert tuple(case.make()(keras.Input(batch_shape=x.shape)).shape) == eager
    assert tuple(case.make()(keras.Input(x.shape[1:])).shape) == (None, *eager[1:])
    layer = case.make()
    build(layer, case)
    assert tuple(layer.compute_output_shape(x.shape)) == eager


@each("layer")
def test_policies_of_layers(case, dtype_policy):
    if dtype_policy not in case.policies:
        pytest.skip("the class does not work under this policy")
    layer = case.make()
    for training in (True, False):
        outputs = layer(case.inputs(8), training=training)
        assert dtype_of(outputs) == layer.compute_dtype
        assert np.isfinite(to_numpy(outputs)).all()
    assert all(dtype_of(weight) == layer.variable_dtype for weight in layer.trainable_weights)


@each("layer")
def test_layouts_of_layers_agree(case):
    if case.channels_first_arguments is None:
        pytest.skip("the class has no layout")
    x = case.inputs(8)
    last, first = case.make(), case.make(**case.channels_first_arguments)
    last.build(x.shape), first.build(channels_first(x).shape)
    first.set_weights(last.get_weights())
    assert_close(first(channels_first(x), training=False), channels_first(to_numpy(last(x, training=False))), atol=1e-5)
    assert first(channels_first(x), training=True).shape == channels_first(to_numpy(last(x, training=True))).shape


@each("layer")
def test_inference_repeats_and_training_does_more(case):
    layer = case.make()
    build(layer, case)
    assert same(run(case, layer, training=False), run(case, layer, training=False))
    if case.trains:
        assert not same(run(case, layer, training=False), run(case, layer, training=True))


@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=only("tensorflow"))])
@each("layer")
def test_compiled_layer(case, xla):
    model = model_of(case)
    compiled = jit(lambda x: model(x, training=True), model, xla=xla, dynamic_batch=not xla)
    for count in BATCHES[: 1 if xla else None]:
        outputs = to_numpy(compiled(ops.convert_to_tensor(case.inputs(count))))
        assert outputs.shape == (count, *model.output.shape[1:])
        assert np.isfinite(outputs).all()


@each("layer")
def test_predict_with_a_last_batch_of_one(case):
    model = model_of(case)
    x = case.inputs(17)
    assert_close(model.predict(x, batch_size=8, verbose=0), model(x, training=False), rtol=1e-4, atol=1e-5)


# Losses.


@each("loss")
def test_loss_is_a_finite_scalar_for_every_batch_size(case):
    loss = case.make()
    for count in BATCHES:
        value = to_numpy(loss(*tensors(case.inputs(count))))
        assert value.shape == () and np.isfinite(value)


@each("loss")
def test_compiled_loss_agrees_with_eager(case):
    loss = case.make()
    inputs = tensors(case.inputs(8))
    assert_close(jit(loss)(*inputs), loss(*inputs), rtol=1e-5)


@each("loss")
def test_policies_of_losses(case, dtype_policy):
    if dtype_policy not in case.policies:
        pytest.skip("the class does not work under this policy")
    targets, outputs = tensors(case.inputs(8))
    value = case.make()(targets, ops.cast(outputs, keras.config.dtype_policy().compute_dtype))
    assert np.isfinite(to_numpy(value))


# Models and callbacks.


@each("model")
def test_model_trains_and_predicts(case):
    model = case.make()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    logs = model.fit(images(11), classes(11), batch_size=4, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    outputs = model.predict(images(9), batch_size=8, verbose=0)
    assert_close(outputs, model(images(9), training=False), rtol=1e-4, atol=1e-5)


@each("inference")
def test_a_model_around_a_trained_one_predicts_alone(case):
    """A last batch of one; training is refused, and nothing of the trained model is moved."""
    model = case.make()
    before = [np.array(to_numpy(variable)) for variable in model.model.variables]
    outputs = model.predict(images(5), batch_size=4, verbose=0)
    again = to_numpy(case.make(model=model.model)(images(5)))
    assert [x.shape for x in tree.flatten(outputs)] == [x.shape for x in tree.flatten(again)]
    if not case.random:
        assert_close(outputs, again, rtol=1e-4, atol=1e-5)
    model.compile("sgd", "mse")
    with raises_received("does not train"):
        model.fit(images(2), np.zeros((2, CLASSES)), verbose=0)
    assert same(before, [to_numpy(variable) for variable in model.model.variables])


@each("callback")
def test_callback_serves_two_trainings(case):
    """State starts anew with each `fit`."""
    callback = case.make()
    for _ in range(2):
        inputs = keras.Input((HEIGHT, WIDTH, 3))
        model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        fit = functools.partial(model.fit, images(8), classes(8), batch_size=4, epochs=2, verbose=0)
        history = fit(validation_data=(images(8), classes(8)), callbacks=[callback]).history
        assert np.isfinite(history["loss"]).all()


# Saving: all models are loaded in one new process, which knows no more than `import keras_reg`.


def saved_model(case):
    """A model that holds one instance, what to call it on, and what to evaluate it with."""
    if case.kind == "loss":
        targets, outputs = case.inputs(8)
        inputs = keras.Input(outputs.shape[1:])
        model = keras.Model(inputs, keras.layers.Dense(outputs.shape[-1], activation="softmax")(inputs))
        model.compile("sgd", case.make())
        return model, outputs, targets
    if case.kind in ("model", "inference"):
        model = case.make()
        model(images(2), training=False)
        return model, images(8), None
    if case.kind == "layer":
        return model_of(case), case.inputs(8), None
    batch = data(form_of(case), 8)
    inputs = tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), batch)
    return keras.Model(inputs, case.make()(inputs)), batch, None


LOAD = """
import pickle
import keras, keras_reg
from harness import to_numpy

def load(path, inputs, targets):
    model = keras.saving.load_model(path)
    loss = None if targets is None else model.evaluate(inputs, targets, verbose=0)
    return to_numpy(model(inputs, training=False)), model.get_weights(), model.get_config(), loss

with open({jobs!r}, "rb") as file:
    jobs = pickle.load(file)
results = {{}}
for name, path, inputs, targets in jobs:
    try:
        results[name] = load(path, inputs, targets)
    except Exception as error:
        results[name] = f"{{type(error).__name__}}: {{error}}"
with open({results!r}, "wb") as file:
    pickle.dump(results, file)
"""


@pytest.fixture(scope="module")
def reloaded():
    """`{row: (before, after)}`, each (outputs, weights, config, loss); a text where saving or loading failed."""
    before, jobs = {}, []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for number, case in enumerate(cases("batch_augmentation", "layer", "loss", "model", "inference")):
            path = str(folder / f"{number}.keras")
            try:
                model, inputs, targets = saved_model(case)
                model.save(path)
                loss = None if targets is None else model.evaluate(inputs, targets, verbose=0)
                outputs = to_numpy(model(inputs, training=False))
                before[case.name] = (outputs, model.get_weights(), model.get_config(), loss)
                jobs.append((case.name, path, inputs, targets))
            except Exception as error:
                before[case.name] = f"{type(error).__name__}: {error}"
        (folder / "jobs").write_bytes(pickle.dumps(jobs))
        run_in_fresh_process(LOAD.format(jobs=str(folder / "jobs"), results=str(folder / "results")))
        after = pickle.loads((folder / "results").read_bytes())
    return {key: (value, after.get(key)) for key, value in before.items()}


@each("batch_augmentation", "layer", "loss", "model", "inference")
def test_reload_in_a_fresh_process(case, reloaded):
    before, after = reloaded[case.name]
    assert not isinstance(before, str), f"building or saving: {before}"
    assert not isinstance(after, str), f"loading: {after}"
    # A list may come back as a tuple.
    assert_close(tree.flatten(after[0]), tree.flatten(before[0]), rtol=1e-5, atol=1e-6)
    assert_close(after[1], before[1], rtol=0, atol=0)
    assert json.dumps(after[2], default=repr) == json.dumps(before[2], default=repr)
    assert after[3] is None or abs(after[3] - before[3]) < 1e-5
