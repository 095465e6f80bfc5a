"""The argument `mix_at` of `RegularizedModel`: its checks, and the network that mixes the outputs of these layers."""

import threading

from keras_reg._validation import fail
from keras_reg.layers import RandomChoice
from keras_reg.layers._composite import Composite
from keras_reg.layers._mixer import Mixer
from keras_reg.training._mix_points import MixPoint
from keras_reg.training._networks import is_graph, names_in
from keras_reg.training._rewired import rewired


class MixAt:
    """The layers at which a network may mix, and the plan of the running step.

    Args:
        names: The `mix_at` argument.
        augmentation: The augmentation, which must contain one mixer.
        model: The network.
    """

    def __init__(self, names, augmentation, model):
        self.names = _check_names(names)
        self.model, self.mixer = model, _check_mixer(names, augmentation)
        self._of_thread = _Running()
        self._network = None
        if not is_graph(model):
            fail("`mix_at` needs a Functional or Sequential model.", model=type(model).__name__)
        known = names_in(model)
        for name in self.names:
            if known.count(name) != 1:
                expected = "is the name of several layers" if name in known else "is not the name of a layer or input"
                fail(f"`mix_at` must name layers of the model. {name!r} {expected}.", mix_at=names, layers=known)
        self.points = [MixPoint(name, position, self) for position, name in enumerate(self.names)]
        if model.built:
            self.network  # noqa: B018  raises errors early

    @property
    def cuts(self):
        """Whether the mixer may paste a box of the partner."""
        return any(layer.cuts for layer in getattr(self.mixer, "layers", [self.mixer]))

    @property
    def network(self):
        """The network that mixes, with the same layers. It is made once, when the layers are built."""
        if self._network is None:
            self._network = rewired(self.model, {point.mixed: point for point in self.points})
        return self._network

    @property
    def sizes(self):
        """The heights and widths of what may be cut, or `None` for each layer."""
        if not self.cuts:
            return (None,) * len(self.points)
        return tuple(point.size() for point in self.points) if self.network else ()

    @property
    def plan(self):
        """The plan of the running step in this thread, or `None` outside of a step."""
        return self._of_thread.plan

    @plan.setter
    def plan(self, plan):
        self._of_thread.plan = plan


class _Running(threading.local):
    plan = None  # replicas of a step run in threads


def _check_names(names):
    given = [names] if isinstance(names, str) else names
    right = isinstance(given, (list, tuple)) and given and all(isinstance(name, str) for name in given)
    if not right or len({*given}) != len(given):
        fail("`mix_at` must be the name of a layer, or a list of different names.", mix_at=names)
    return tuple(given)


def _check_mixer(names, augmentation):
    found = _mixers(augmentation)
    if len(found) != 1:
        fail(
            "`mix_at` needs an `augmentation` with exactly one mixer: a `MixUp`, a `CutMix`, or a `RandomChoice` that "
            "contains nothing else.",
            mix_at=names,
            mixers=[layer.name for layer in found],
        )
    return found[0]


def _mixers(layer):
    """Returns the mixers in an augmentation. A `RandomChoice` of mixers is one."""
    if isinstance(layer, Mixer) or (isinstance(layer, RandomChoice) and layer.fused):
        return [layer]
    return [mixer for part in layer.layers for mixer in _mixers(part)] if isinstance(layer, Composite) else []
