"""Odd calls of losses, of the layers of a network, of `RegularizedModel` and of callbacks, with float64 references."""

import keras
import numpy as np
import odd_references as reference
import odd_values as odd
from odd_arguments import judge_error
from odd_references import CLASSES, close, real

from keras_reg import callbacks, layers, losses, training

LOGITS = np.random.default_rng(3).standard_normal((odd.COUNT, CLASSES)).astype("float32")
PREDICTIONS = [
    "z",
    "z.tolist()",
    "z.astype('float64')",
    "z.astype('float16')",
    "z.astype('longdouble')",
    "z.astype('>f4')",
    "(z*4).astype('int32')",
    "z>0",
    "z+0j",
    "z.astype(object)",
    "z.astype(str)",
    "z[:2]",
    "z[:,:3]",
    "z[:,:1]",
    "z[:,:0]",
    "z[:0]",
    "z[0]",
    "z[0,0]",
    "z[None]",
    "z[...,None]",
    "z*1e30",
    "z*float('nan')",
    "z*0",
    "ops.convert_to_tensor(z)",
    "foreign(z)",
    "None",
    "'z'",
    "[z]",
    "{'a':z}",
    "object()",
    "[[None]*4]*4",
    "structured(z)",
    "sparse(z)",
    "lambda:z",
    "10**400",
    "b'z'",
]


def _values(expression):
    with np.errstate(all="ignore"):
        return eval(expression, {**odd.names(), "z": LOGITS})


# The loss: labels, predictions and weights in turn.


def _loss(y_true, y_pred, sample_weight=None):
    return losses.LabelSmoothingCrossentropy(0.1, from_logits=True)(y_true, y_pred, sample_weight)


def try_loss(slot, expression):
    arguments = {"y_true": odd.batch()["y"], "y_pred": LOGITS, "sample_weight": None}
    try:
        found = _loss(**{**arguments, slot: _values(expression)})
    except Exception as error:
        return judge_error(error, slot, *(["y_true"] if slot == "y_pred" else []))  # ids that do not fit the classes
    y_true, y_pred, weight = (real(value) for value in {**arguments, slot: _values(expression)}.values())
    if y_true is None or y_pred is None or (weight is None and slot == "sample_weight" and expression != "None"):
        return f"taken as {slot}"
    return _fault_of_loss(found, y_true, y_pred, weight) or "equal"


def _fault_of_loss(found, y_true, y_pred, weight):
    if y_pred.ndim == 1:  # one example
        y_true, y_pred = y_true[None], y_pred[None]
    if y_pred.ndim != 2 or y_true.shape not in (y_pred.shape[:1], (len(y_pred), 1), y_pred.shape):
        return "other shapes taken"
    ids = y_true.shape != y_pred.shape
    if ids and not ((y_true >= 0) & (y_true < CLASSES) & (y_true == np.floor(y_true))).all():
        return "no class ids, and taken"
    if weight is not None and weight.size not in (1, odd.COUNT):
        return "weights of another shape taken"
    expected = reference.crossentropy(y_true, y_pred, None if weight is None else weight.reshape(-1))
    return None if close(found, np.float64(expected)) else f"{real(found)} for {expected}"


def loss_trials():
    found = {"y_true": odd.LABELS, "y_pred": PREDICTIONS, "sample_weight": odd.WEIGHTS}
    return [(slot, expression) for slot, expressions in found.items() for expression in expressions]


# The loss again: arguments that go together, drawn at random.


def mixed_loss_trials(count=300):
    """[(arguments, seed)]"""
    rng = np.random.default_rng(11)
    options = {
        "label_smoothing": (0.0, 0.1, 0.5, 0.999), "from_logits": (True, False), "ignore_class": (None, -1, 2, 255),
        "class_weight": (None, [1.0, 0.0, 2.0, 0.5], [0.0, 0.0, 0.0, 0.0], [1e-30, 1, 1, 1]), "axis": (-1, 1, 2),
        "prior": (None, [0.7, 0.1, 0.1, 0.1], [1.0, 0.0, 0.0, 0.0], [0.25] * 4), "form": ("ids", "onehot", "soft"),
    }  # fmt: skip
    return [({k: v[rng.integers(len(v))] for k, v in options.items()}, seed) for seed in range(count)]


def try_mixed_loss(arguments, seed):
    arguments = dict(arguments)
    form, axis = arguments.pop("form"), arguments["axis"]
    rng = np.random.default_rng(seed)
    shape = (2, 3, CLASSES) if axis != 1 else (2, CLASSES, 3)
    z = rng.choice([-30.0, -1.0, 0.0, 2.0, 30.0, -np.inf], p=[0.1, 0.3, 0.2, 0.2, 0.1, 0.1], size=shape)
    z = np.where(np.isinf(z).all(axis, keepdims=True), 0.0, z)  # one class at least is possible
    if not arguments["from_logits"]:
        z = np.exp(z - z.max(axis, keepdims=True))
        z = z / z.sum(axis, keepdims=True)
    ids = rng.integers(0, CLASSES, np.delete(shape, axis))
    if arguments["ignore_class"] is not None:
        ids = np.where(rng.random(ids.shape) < 0.3, arguments["ignore_class"], ids)
    soft = rng.dirichlet(np.ones(CLASSES), ids.shape) if form == "soft" else np.eye(CLASSES)[ids % CLASSES]
    y_true = ids.astype("int32") if form == "ids" else np.moveaxis(soft, -1, axis).astype("float32")
    try:
        found = losses.label_smoothing_crossentropy(y_true, z.astype("float32"), **arguments)
    except Exception as error:
        return judge_error(error, *arguments)
    expected = _smoothed(y_true, z.astype("float32").astype("float64"), form, **arguments)
    return "equal" if close(found, expected) else f"{real(found).tolist()} for {expected.tolist()}"


def _smoothed(y_true, z, form, label_smoothing, from_logits, ignore_class, class_weight, axis, prior):
    """The loss of each element as the docstring has it; 0 times infinity is 0."""
    z = np.moveaxis(z, axis, -1)
    with np.errstate(all="ignore"):
        logs = z - z.max(-1, keepdims=True)
        logs = logs - np.log(np.exp(logs).sum(-1, keepdims=True))
        if not from_logits:
            logs = np.log(np.maximum(z / z.sum(-1, keepdims=True), keras.config.epsilon()))
    counted, mass = np.ones(z.shape[:-1], bool), 1.0
    if form == "ids":
        counted = y_true != ignore_class if ignore_class is not None else counted
        targets = np.eye(CLASSES)[np.where(counted, y_true, 0) % CLASSES]
    else:
        targets = np.moveaxis(y_true.astype("float64"), axis, -1).copy()
        if ignore_class is not None and 0 <= ignore_class < CLASSES:
            mass = 1 - targets[..., ignore_class]
            targets[..., ignore_class] = 0
            counted, mass = mass > 0, mass[..., None]
    shares = np.asarray(prior if prior is not None else [1 / CLASSES] * CLASSES)
    weights = np.asarray(class_weight if class_weight is not None else [1.0] * CLASSES)
    whole = ((1 - label_smoothing) * targets + label_smoothing * mass * shares) * weights
    with np.errstate(all="ignore"):
        terms = np.where(whole == 0, 0, -whole * logs)
    return np.where(counted, terms.sum(-1), 0)


# The layers of a network. Each with what it gives in inference, float64, on (batch, height, width, channels).


def _kernel(layer):
    return [real(weight) for weight in layer.layer.get_weights()]


def _dense(layer, x):
    kernel, bias = _kernel(layer)
    return x @ kernel + bias


def _normalized(layer, x):
    return x / np.sqrt(1 + layer.epsilon)


def _pooled(layer, x):
    b, h, w, c = x.shape
    return x.max(1, keepdims=True) if h < 4 else x.reshape(b, h // 2, 2, w, c).max(2)


LAYERS = {
    "DropPath": (lambda: layers.DropPath(0.5, seed=1), lambda layer, x: x),
    "DropBlock2D": (lambda: layers.DropBlock2D(0.5, 2, seed=1), lambda layer, x: x),
    "NoisyBatchNormalization": (lambda: layers.NoisyBatchNormalization(0.1, seed=1), _normalized),
    "GhostBatchNormalization": (lambda: layers.GhostBatchNormalization(2), _normalized),
    "DropConnect": (lambda: layers.DropConnect(keras.layers.Dense(2), 0.5, seed=1), _dense),
    "WeightNoise": (lambda: layers.WeightNoise(keras.layers.Dense(2), 0.5, seed=1), _dense),
    "FractionalMaxPooling2D": (lambda: layers.FractionalMaxPooling2D((2.0, 1.0), seed=1), _pooled),
}
RANK_4 = ("DropBlock2D", "FractionalMaxPooling2D")


def layer_trials(name):
    found = {
        "inputs": odd.IMAGES
        + [e for e in odd.FORMS if e[0] not in "{(["]
        + ["[x]", "(x,)", "{'a':x}", "[x,x]", "[]", "{}"]
    }
    found["training"] = odd.TRAINING
    return [(slot, expression) for slot, expressions in found.items() for expression in expressions]


def try_layer(name, slot, expression):
    make, inference = LAYERS[name]
    layer, given = make(), odd.value_of(expression)
    x = odd.batch()["x"]
    try:
        result = layer(given, training=False) if slot == "inputs" else layer(x, training=given)
    except Exception as error:
        return judge_error(error, slot, "Input 0", "expects 1 input")
    if slot == "training":
        return (
            "equal"
            if expression in ("True", "False", "None", "0", "1", "np.True_", "np.False_", "np.array(False)")
            else "taken"
        )
    before = real(odd.value_of(expression) if expression not in ("[x]", "(x,)") else x)
    if before is None or before.ndim == 0 or (name in RANK_4 and before.ndim != 4):
        return "taken as inputs"
    result = result[0] if isinstance(result, (list, tuple)) else result
    if inference is _dense and np.abs(before).max(initial=0) > 1e37:  # whose products are infinite
        return "equal"
    return "equal" if close(result, inference(layer, before)) else f"another result: {real(result).ravel()[:5]!s}"


# RegularizedModel: labels and weights in the step, as its loss sees them.


def model_trials():
    found = {"x": [*odd.IMAGES, *NO_BATCHES], "y": odd.LABELS, "sample_weight": odd.WEIGHTS}
    return [(slot, expression) for slot, expressions in found.items() for expression in expressions]


def _network():
    inputs = keras.Input((odd.HEIGHT, odd.WIDTH, odd.CHANNELS))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(inputs)))


def regularized_model():
    model = training.RegularizedModel(_network(), layers.MixUp(1.0, seed=1))
    model.compile("sgd", losses.LabelSmoothingCrossentropy(0.1, from_logits=True), run_eagerly=True)
    return model


NO_BATCHES = ["None", "'x'", "object()", "10**400", "[]", "{}", "[None]", "[x,y]", "sparse(x)", "iter([x])"]
NAMES = {
    "x": ("images", "x=", "inputs"), "y": ("labels", "y_true", "y=", "`y`", "'y'"), "sample_weight": ("sample_weight",),
}  # fmt: skip
ONE = "[w]"  # a list of the weights of one output, which Keras takes too


def model_arguments(slot, expression):
    """(what is given, the same as float64)"""
    b = odd.batch()
    given = {"x": b["x"], "y": b["y"], "sample_weight": None, slot: odd.value_of(expression)}
    known = {**given, slot: given[slot][0] if expression == ONE else odd.value_of(expression)}
    return given, {name: real(value) for name, value in known.items()}


def try_model(model, slot, expression):
    arguments, given = model_arguments(slot, expression)
    try:
        x, y, weight = model.augment(**arguments)
        found = model.compute_loss(x, y, keras.ops.convert_to_tensor(LOGITS), weight)
    except Exception as error:
        return judge_error(error, *NAMES[slot])
    if given[slot] is None and expression != "None":
        return f"taken as {slot}"
    if slot == "x":
        any_rank = isinstance(model.augmentation, layers.MixUp)
        fits = given["x"].shape[0] == odd.COUNT and (any_rank or given["x"].ndim == 4)
        return "equal" if fits else "taken as x"
    weights = reference.Blended(given["x"], real(x)).weights
    return _fault_of_step(found, weights, LOGITS.astype("float64"), given, expression) or "equal"


def try_evaluation(model, slot, expression):
    """`test_on_batch`, which does not augment: the loss of the network."""
    arguments, given = model_arguments(slot, expression)
    kernel, bias = (real(weight) for weight in model.get_weights()[:2])
    model.reset_metrics()  # Keras 3.10 and 3.11 return means over all calls
    try:
        found = model.test_on_batch(**arguments)
    except Exception as error:
        return judge_error(error, *NAMES[slot], *["Input 0", "Invalid input shape"][: 2 * (slot == "x")])  # the network
    x = given["x"]
    if given[slot] is None and expression != "None":
        return f"taken as {slot}"
    if x is None or x.size != odd.batch()["x"].size:
        return "taken as x"
    with np.errstate(all="ignore"):
        logits = x.reshape(odd.COUNT, -1) @ kernel + bias
        return _fault_of_step(found, np.eye(odd.COUNT), logits, given, expression) or "equal"


def _fault_of_step(found, weights, logits, given, expression):
    y, w = given["y"], given["sample_weight"]
    if y is None:
        return None
    if y.shape not in ((odd.COUNT,), (odd.COUNT, 1), (odd.COUNT, CLASSES)):
        return "other labels taken"
    if y.shape != (odd.COUNT, CLASSES) and not ((y >= 0) & (y < CLASSES) & (y == np.floor(y))).all():
        return "no class ids, and taken" if np.isfinite(real(found)).all() else None
    if w is not None and (w.ndim == 0 or len(w) != odd.COUNT or w.size != odd.COUNT):
        return "other weights taken"
    w = None if w is None else reference.product(weights, w.reshape(-1))
    expected = reference.crossentropy(y, logits, w, weights=weights)
    expected = expected if abs(expected) < 1e37 else np.inf  # what float32 makes of it, or NaN
    tolerance = 1e-3 if "float16" in expression else 1e-5
    same = (
        np.allclose(real(found), expected, rtol=tolerance, equal_nan=True) or not np.isfinite([expected, found]).any()
    )
    return None if same else f"{real(found)} for {expected}"


# Callbacks: what `logs` may hold.

CALLBACKS = {
    "SmoothedEarlyStopping": lambda: callbacks.SmoothedEarlyStopping("loss", restore_best_weights=False, patience=3),
    "DivergenceStop": lambda: callbacks.DivergenceStop(verbose=0),
}


def try_logs(name, expression):
    callback = CALLBACKS[name]()
    model = keras.Sequential([keras.layers.Dense(1)])
    model.stop_training = False
    callback.set_model(model)
    logs = {"loss": odd.value_of(expression)}
    try:
        callback.on_train_begin()
        for epoch in range(2):
            callback.on_epoch_begin(epoch)
            callback.on_epoch_end(epoch, logs)
    except Exception as error:
        return judge_error(error, "loss", "monitor")
    value = real(odd.value_of(expression))
    if (
        isinstance(logs["loss"], str)
        or (value is None and not hasattr(logs["loss"], "__float__"))
        or np.size(value) != 1
    ):
        return "taken as a value"
    value = float(logs["loss"] if value is None or not np.ndim(logs["loss"]) else value.item())
    if name == "DivergenceStop":
        return "equal" if np.isfinite(value) or model.stop_training else "goes on"
    smoothed = logs.get("smoothed_loss")
    right = not np.isfinite(value) or np.isclose(float(smoothed), value)
    return "equal" if right else f"smoothed {smoothed} for {value}"


def all_trials():
    """{name: [(call, arguments)]}, without the augmentations, whose trials are in `odd_calls`."""
    model = None

    def on_model(function, *arguments):
        nonlocal model
        model = model or regularized_model()
        return function(model, *arguments)

    found = {"LabelSmoothingCrossentropy": [(try_loss, t) for t in loss_trials()]}
    found["label_smoothing_crossentropy"] = [(try_mixed_loss, t) for t in mixed_loss_trials()]
    found |= {name: [(try_layer, (name, *t)) for t in layer_trials(name)] for name in LAYERS}
    found["RegularizedModel"] = [(on_model, (f, *t)) for f in (try_model, try_evaluation) for t in model_trials()]
    return found | {name: [(try_logs, (name, e)) for e in odd.LOGS] for name in CALLBACKS}
