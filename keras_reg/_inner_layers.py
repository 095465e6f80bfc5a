"""The layers inside a layer, their paths, and what a copy of them needs besides its config and its weights."""

import keras

NORMALIZATIONS = tuple(
    getattr(keras.layers, name)
    for name in ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization")
    if hasattr(keras.layers, name)
)
LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup)  # a `TextVectorization` holds one


def children(layer):
    """Returns the layers that a layer holds directly, in order."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    found = {}
    _collect([value for value in vars(layer).values() if value is not layer], found)
    return [child for child in found.values() if child is not layer]


def _collect(value, found):
    if isinstance(value, keras.layers.Layer):
        found.setdefault(id(value), value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _collect(item, found)
    elif isinstance(value, dict):
        _collect(list(value.values()), found)


def walk(layer, prefix="", seen=None):
    """Returns [(path, layer)] of all layers inside `layer`, such as "block/conv", outer ones first and each once."""
    seen = {id(layer)} if seen is None else seen
    found = []
    for child in children(layer):
        if id(child) not in seen:
            seen.add(id(child))
            path = f"{prefix}{child.name}"
            found += [(path, child), *walk(child, f"{path}/", seen)]
    return found


def inside(layer):
    """Returns `layer` and all layers inside it."""
    return [layer, *(child for _, child in walk(layer))]


def copy_lora_alpha(old, new):
    """Copies the scale of LoRA from a layer to one that was made from its config, where Keras does not restore it."""
    for source, target in zip(inside(old), inside(new), strict=False):
        if getattr(source, "lora_enabled", False) and getattr(target, "lora_enabled", False):
            target.lora_alpha = source.lora_alpha


def copy_tables(old, new):
    """Copies the vocabularies that lookup layers have found in data, which are not in their configs."""
    for source, target in zip(inside(old), inside(new), strict=False):
        if not isinstance(source, LOOKUPS) or type(source) is not type(target):
            continue
        words = source.get_vocabulary()
        if len(source.get_vocabulary(include_special_tokens=False)) and words != target.get_vocabulary():
            weights = [source.idf_weights_const.numpy()] if source.output_mode == "tf_idf" else []
            target.set_vocabulary(words, *weights)


def derive_values(layer):
    """Updates what a layer derives from its weights, as `Normalization` does.

    Without weights, `finalize_state` would overwrite what a layer has from its config or from `copy_tables`.
    """
    if layer.weights and hasattr(layer, "finalize_state"):
        layer.finalize_state()
