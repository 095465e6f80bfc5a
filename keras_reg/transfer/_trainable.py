"""Which layers and weights train, and which weights their owner has frozen by themselves."""

import dataclasses
import weakref

from keras_reg.transfer._layers import inside, own_weights, parents_first


@dataclasses.dataclass(frozen=True)
class Intent:
    """What is known of a weight whose layer has been frozen or unfrozen here.

    Attributes:
        meant: Whether it trains when its layer does.
        held: Whether it was stopped here although its layer is on, since that layer only holds others that train.
    """

    meant: bool
    held: bool


# {id of a weight: (weak reference, `Intent`)}. Freezing a layer overwrites the flag of each weight in it, so what the
# owner said about a single weight would be lost. Variables are not hashable, hence the ids.
_intents = {}


def intent_of(weight):
    """The `Intent` of a weight, or `None`."""
    reference, intent = _intents.get(id(weight), (lambda: None, None))
    return intent if reference() is weight else None


def _set_intent(weight, intent):
    key = id(weight)
    _intents.pop(key, None)
    if intent is not None:
        _intents[key] = weakref.ref(weight, lambda _: _intents.pop(key, None)), intent


class TrainableMap:
    """Which layers and weights of a model train, to be put back later."""

    def __init__(self, model):
        self.layers = [(layer, layer.trainable) for layer in parents_first(model)]
        self.weights = [(weight, weight.trainable, intent_of(weight)) for weight in model.weights]

    def restore(self):
        for layer, trainable in self.layers:
            layer.trainable = trainable
        for weight, trainable, intent in self.weights:
            if weight.trainable != trainable:
                weight.trainable = trainable
            _set_intent(weight, intent)

    def frozen_beside_others(self, model):
        """The ids of the layers of `model` that did not train while others did: someone has frozen them on purpose.

        Nothing is on purpose where all is frozen, as by `backbone.trainable = False`.
        """
        own = {id(weight) for weight in model.weights}
        if not any(trainable for weight, trainable, _ in self.weights if id(weight) in own):
            return frozenset()
        part = {id(layer) for layer in inside(model)}
        return frozenset(id(layer) for layer, trainable in self.layers if id(layer) in part and not trainable)


def set_trainable(root, chosen):
    """Makes the weights of the layers in `chosen`, a set of ids, train, and no others inside of `root`.

    A weight that its owner has frozen by itself stays as it is. Keras hands a layer's `trainable` down to all in it:
    so the outer ones are set first. What holds a chosen layer must be trainable itself, or Keras would not look into
    it.
    """
    layers = inside(root)
    meant = _meant(layers)
    order = parents_first(root)
    for layer in order:  # on TensorFlow, Keras hands down only what changes
        layer.trainable = False
    root.trainable = True
    can_train = {id(weight) for weight in root.weights if weight.trainable}
    holders = {id(layer) for layer in layers if any(id(child) in chosen for child in inside(layer))}
    for layer in order:
        layer.trainable = id(layer) in holders
    wanted = {id(weight) for layer in layers if id(layer) in chosen for weight in own_weights(layer)}
    for layer in layers:
        for weight in own_weights(layer):
            is_meant = meant[id(weight)] if meant[id(weight)] is not None else id(weight) in can_train
            is_wanted = id(weight) in wanted
            if weight.trainable != (is_meant and is_wanted):
                weight.trainable = is_meant and is_wanted
            _set_intent(weight, Intent(is_meant, held=layer.trainable and not is_wanted))


def _meant(layers):
    """{id of a weight: whether it trains when its layer does, or `None` where nothing tells}."""
    held_by, bases = {}, set()
    for layer in layers:
        for weight in own_weights(layer):
            held_by.setdefault(id(weight), (weight, []))[1].append(layer)
        bases |= {id(weight) for weight in _adapted(layer)}
    return {key: key not in bases and _is_meant(weight, some) for key, (weight, some) in held_by.items()}


def _is_meant(weight, layers):
    intent = intent_of(weight)
    if weight.trainable:
        return True
    if not all(layer.trainable for layer in layers):  # the flag is that of the layer
        return intent.meant if intent else None
    return intent.meant if intent and intent.held else False


def _adapted(layer):
    """The pretrained weights beside which LoRA has put its own: Keras would train them again with their layer."""
    if not getattr(layer, "lora_enabled", False):
        return []
    weights = own_weights(layer)
    adapters = [weight.name for weight in weights if weight.name.startswith("lora_")]
    names = {name.removeprefix("lora_").removesuffix("_a") for name in adapters}
    return [weight for weight in weights if weight.name in names]
