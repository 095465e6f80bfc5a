"""Joining a backbone and a head: preprocessing before the backbone, pooling between the two."""

import dataclasses

import keras
from keras import tree

from keras_reg._inner_layers import children, inside
from keras_reg._validation import check_integer, fail, is_integer
from keras_reg.training import RegularizedModel
from keras_reg.transfer._preprocess import preprocess_inputs

POOLING = {
    3: keras.layers.GlobalAveragePooling1D,
    4: keras.layers.GlobalAveragePooling2D,
    5: keras.layers.GlobalAveragePooling3D,
}
# Layers that treat vectors and feature maps alike.
INDIFFERENT = (
    keras.layers.Dropout,
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
)


@dataclasses.dataclass(frozen=True)
class Assembly:
    """The parts of a transfer, which share their layers.

    Attributes:
        backbone: The pretrained model.
        augmentation: The layer that changes raw inputs in training, or `None`.
        model: Raw inputs to outputs.
        trainer: `model`, or the `RegularizedModel` around it if there is an augmentation.
        extractor: Raw inputs to features: all of `model` that comes before the head.
        head: The layer or model that computes outputs from features.
        head_model: Features to outputs.
        notes: Lines that say how the parts were joined.
    """

    backbone: keras.Model
    augmentation: keras.layers.Layer | None
    model: keras.Model
    trainer: keras.Model
    extractor: keras.Model
    head: keras.layers.Layer
    head_model: keras.Model
    notes: tuple[str, ...]


def assemble(backbone, head, preprocess, augmentation):
    """Joins the parts; `head` is a number of classes, a layer, a model or a list of layers."""
    _check_backbone(backbone)
    inputs = _make_inputs(backbone)
    prepared, note = preprocess_inputs(preprocess, backbone, inputs)
    features = _features(backbone, backbone(prepared))
    head = _make_head(head)
    features, *more = _pool_if_needed(features, head, backbone)
    outputs = _call_head(head, features, inputs)
    one = keras.Input(features.shape[1:], dtype=features.dtype, name="features")
    model = keras.Model(inputs, outputs, name=f"{backbone.name}_transfer")
    return Assembly(
        backbone=backbone,
        augmentation=augmentation,
        model=model,
        trainer=model if augmentation is None else RegularizedModel(model, augmentation),
        extractor=keras.Model(inputs, features, name=f"{backbone.name}_features"),
        head=head,
        head_model=keras.Model(one, _call_head(head, one, one), name=f"{backbone.name}_head"),
        notes=(f"Inputs: {note}.", *more),
    )


def _check_backbone(backbone):
    if not isinstance(backbone, keras.Model):
        fail(
            "`backbone` must be a `keras.Model`, such as `keras.applications.MobileNetV2(include_top=False)`.",
            backbone=backbone,
        )
    if isinstance(backbone, RegularizedModel):
        fail("`backbone` must be a network. Pass its `model`.", backbone=type(backbone).__name__)
    of_hub = any(cls.__module__.startswith(("keras_hub", "keras_nlp")) for cls in type(backbone).__mro__)
    if of_hub and isinstance(getattr(backbone, "backbone", None), keras.Model):  # a task
        fail(f"`backbone` must not have a head: pass `{backbone.name}.backbone`.", backbone=backbone.name)
    if getattr(backbone, "outputs", None) and len(backbone.outputs) == 1 and _ends_in_classes(backbone):
        fail(
            "`backbone` must not have its old head, but it ends in class probabilities. Create it with "
            "`include_top=False`, or cut it with `keras.Model(b.input, b.layers[-2].output)`.",
            backbone=backbone.name,
            outputs=backbone.output_shape,
        )


def _ends_in_classes(layer):
    """Whether the last layer is a softmax over vectors, or the "predictions" of `keras.applications`."""
    if isinstance(layer, keras.Model):
        vectors = not getattr(layer, "outputs", None) or len(layer.outputs[0].shape) == 2
        return vectors and bool(layer.layers) and _ends_in_classes(layer.layers[-1])
    softmax = isinstance(layer, keras.layers.Softmax) or getattr(layer, "activation", None) is keras.activations.softmax
    return softmax or (layer.name == "predictions" and isinstance(layer, (keras.layers.Dense, keras.layers.Activation)))


def _make_inputs(backbone):
    if getattr(backbone, "inputs", None):
        inputs = backbone.inputs[0] if isinstance(backbone, keras.Sequential) else backbone.input
        return tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype, name=x.name), inputs)
    config = backbone.get_build_config() or {} if backbone.built else {}
    shape = config.get("input_shape") or next(iter((config.get("shapes_dict") or {}).values()), None)
    if isinstance(shape, dict) or (shape and isinstance(shape[0], (tuple, list, dict))):
        fail("A subclassed `backbone` must have one input. Make it Functional for several ones.", inputs=shape)
    if not isinstance(shape, (tuple, list)) or not shape:
        fail("`backbone` must be built: call it on a batch first.", backbone=backbone)
    return keras.Input(tuple(shape[1:]), name="inputs")


def _features(backbone, outputs):
    """Returns the single tensor that the head takes."""
    if isinstance(outputs, dict) and "pooled_output" in outputs:  # text models of KerasHub
        return outputs["pooled_output"]
    found = tree.flatten(outputs)
    if len(found) == 1:
        return found[0]
    names = sorted(outputs) if isinstance(outputs, dict) else len(found)
    fail("`backbone` must have one output: select one with `keras.Model(b.input, b.output[...])`.", outputs=names)


MOST_CLASSES = 2**24  # above this, float32 does not represent every class id


def _make_head(head):
    if is_integer(head):
        head = check_integer("head", head, low=1, high=MOST_CLASSES)
        # Logits in float32 also under mixed precision: the softmax of the loss needs them.
        return keras.layers.Dense(head, dtype="float32", name="head")
    if isinstance(head, (list, tuple)) and head and all(isinstance(layer, keras.layers.Layer) for layer in head):
        return keras.Sequential(list(head), name="head")
    if isinstance(head, keras.layers.Layer):
        return head
    fail("`head` must be a number of classes, a layer, a model or a list of layers.", head=head)


def _pool_if_needed(features, head, backbone):
    """Returns the features, pooled if the head would otherwise classify every position of a map separately."""
    rank = len(features.shape)
    if rank not in POOLING or not _wants_vectors(head, rank):
        return (features,)
    layouts = [layer.data_format for layer in inside(backbone) if getattr(layer, "data_format", None)]
    layout = layouts[-1] if layouts and rank > 3 else None
    pooled = POOLING[rank](data_format=layout, name="global_pooling")(features)
    return (
        pooled,
        f"Features: {backbone.name} ends in {tuple(features.shape[1:])}, averaged over all positions.",
    )


def _wants_vectors(head, rank):
    """Whether the head takes vectors: its first layer that depends on the rank is a dense layer."""
    if getattr(head, "inputs", None):
        return len(head.inputs) == 1 and len(head.inputs[0].shape) == 2
    for layer in [head, *children(head)] if isinstance(head, keras.Sequential) else [head]:
        if isinstance(layer, keras.layers.Dense):
            return True
        if not isinstance(layer, (keras.Sequential, *INDIFFERENT)):
            return False
    return False


def _call_head(head, features, inputs):
    try:
        outputs = head(features)
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        fail(f"The head must take the features of the backbone: {reason}", features=tuple(features.shape))
    return _named(outputs, head, inputs)


def _named(outputs, head, inputs):
    """Returns several outputs under their own names.

    Keras would name all of them after the head, so losses, metrics, labels and logs could not tell them apart.
    """
    if isinstance(outputs, dict):
        names, found = tuple(outputs), tuple(outputs.values())
    else:
        names, found = tuple(getattr(head, "output_names", ())), tree.flatten(outputs)
    taken = {layer.name for layer in keras.Model(inputs, outputs).layers}
    if len(found) < 2 or len({*names}) != len(found) or any(map(tree.is_nested, found)) or taken.intersection(names):
        return outputs
    named = [
        keras.layers.Identity(name=name, dtype=output.dtype)(output) for name, output in zip(names, found, strict=True)
    ]
    return dict(zip(names, named, strict=True)) if isinstance(outputs, dict) else named
