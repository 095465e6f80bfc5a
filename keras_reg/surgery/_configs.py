"""Recreating layers from their configs within one process, where their functions and classes are at hand."""

import types
import warnings

import keras

from keras_reg._validation import fail


def config_of(original):
    """Returns the config of a layer or model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The object being serialized includes a `lambda`")
        try:
            return original.get_config()
        except (NotImplementedError, TypeError, OSError) as error:  # OSError: a lambda without source
            _fail(original, error)


def made_from(original, cls, config, known):
    """Returns an instance of `cls` that replaces `original`; `known` is the result of `name_objects`."""
    with keras.saving.custom_object_scope(known):
        try:
            return cls.from_config(config)
        except (NotImplementedError, TypeError) as error:
            _fail(original, error)


def _fail(original, error):
    reason = " ".join(str(error).split())[:300]
    fail(f"`model` must consist of layers that can be recreated from their configs: {reason}", name=original.name)


def name_objects(owner, config):
    """Puts names into a config in place of lambdas and custom classes, and returns {name: object}.

    The serialized form of a lambda is code without its surrounding names, which Keras refuses to load.
    """
    known = {}
    for name, value in config.items():
        mine = getattr(owner, name, None)
        if isinstance(mine, types.FunctionType) and mine.__name__ == "<lambda>":
            key = f"lambda_{id(mine)}"
            known[key] = mine
            config[name] = {"class_name": "function", "config": key, "module": "builtins", "registered_name": key}
        elif isinstance(value, dict) and isinstance(value.get("config"), dict):
            known |= _name_object(mine, value)
    if isinstance(owner, keras.Model):
        layers = {layer.name: layer for layer in owner.layers}  # without the inputs of a Sequential
        for entry in config.get("layers", ()):
            known |= _name_object(layers.get(entry["config"]["name"]), entry)
    return known


def _name_object(mine, value):
    """Does the same for an object that is serialized within a config."""
    if mine is None:
        return {}
    known = {value["registered_name"]: type(mine)} if value.get("registered_name") else {}
    return known | name_objects(mine, value["config"])
