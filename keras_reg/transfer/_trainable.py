"""Which layers and weights are trainable, and which weights the user has frozen individually."""

import dataclasses
import weakref

from keras_reg._inner_layers import inside
from keras_reg.transfer._layers import own_weights, parents_first


@dataclasses.dataclass(frozen=True)
class Intent:
    """How the user wants a weight to train, whose layer this module has frozen or unfrozen.

    Attributes:
        meant: Whether the weight trains when its layer does.
        held: Whether it was frozen although its layer is trainable, since that layer only holds others that train.
    """

    meant: bool
    held: bool


# {id of a weight: (weak reference, `Intent`)}. Freezing a layer overwrites the flag of each weight in it, so the choice
# of the user for a single weight would be lost. Variables are not hashable, hence the ids.
_intents = {}


def intent_of(weight):
    """Returns the `Intent` of a weight, or `None`."""
    reference, intent = _intents.get(id(weight), (lambda: None, None))
    return intent if reference() is weight else None


def _set_intent(weight, intent):
    key = id(weight)
    _intents.pop(key, None)
    if intent is not None:
        _intents[key] = weakref.ref(weight, lambda _: _intents.pop(key, None)), intent


class TrainableMap:
    """Remembers which layers and weights of a model are trainable, to restore it later."""

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
        """Returns the ids of the layers of `model` that were frozen while others were not, hence on purpose.

        If all layers are frozen, as by `backbone.trainable = False`, none of them is taken to be frozen on purpose.
        """
        own = {id(weight) for weight in model.weights}
        if not any(trainable for weight, trainable, _ in self.weights if id(weight) in own):
            return frozenset()
        part = {id(layer) for layer in inside(model)}
        return frozenset(id(layer) for layer, trainable in self.layers if id(layer) in part and not trainable)


def set_trainable(root, chosen):
    """Makes exactly the weights of the layers in `chosen`, a set of ids, trainable in `root`.

    A weight that the user has frozen individually stays frozen. Keras passes a layer's `trainable` on to all layers
    inside it, so outer layers are set first. A layer that holds a chosen one must be trainable itself, or Keras would
    ignore what is inside.
    """
    layers = inside(root)
    meant = _meant(layers)
    order = parents_first(root)
    for layer in order:  # on TensorFlow, Keras passes on only what changes
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
    """Returns {id of a weight: whether it trains when its layer does, or `None` if unknown}."""
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
    """Returns the pretrained weights that LoRA has frozen: Keras would unfreeze them with their layer."""
    if not getattr(layer, "lora_enabled", False):
        return []
    weights = own_weights(layer)
    adapters = [weight.name for weight in weights if weight.name.startswith("lora_")]
    names = {name.removeprefix("lora_").removesuffix("_a") for name in adapters}
    return [weight for weight in weights if weight.name in names]
