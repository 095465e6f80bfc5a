"""The optimizer of a phase: made from a template, with what was remembered of the weights that it has trained."""

import keras
from keras import ops

from keras_reg.transfer._rates import PhaseSchedule
from keras_reg.transfer._slots import TIMELESS, kind_of, members, recall, remember, schedule_of
from keras_reg.transfer._weight_decay import excluded_from_weight_decay


class PhaseOptimizer:
    """Copies of a template: one for each rate and each age of the weights, since Adam counts steps for all it moves.

    Args:
        template: The optimizer of the phase.
        groups: [(name, factor of the rate, weights)].
        memories: {id of a weight: `Memory`}.
    """

    def __init__(self, template, groups, memories):
        # A `LossScaleOptimizer` that was given goes around all copies.
        self.scaling, self.template = (None, template)
        if hasattr(template, "inner_optimizer"):
            self.scaling, self.template = template, template.inner_optimizer
        self.kind = kind_of(self.template)
        self.memories = {key: memory for key, memory in memories.items() if memory.kind == self.kind is not None}
        self.groups = groups
        known = [memories[id(weight)] for _, _, weights in groups for weight in weights if id(weight) in memories]
        self.dropped = any(memory.kind != self.kind or self.kind is None for memory in known)
        self.forgotten = False
        parts = self._split()
        if len(parts) > 1 and not hasattr(keras.optimizers, "MultiOptimizer"):
            # Sound, if not ideal: new slots under old steps would be wrong, new steps over old slots too.
            self.memories, self.forgotten = {}, True
            parts = self._split()
        self.parts = [(self._copy(key, weights, len(parts) == 1), weights) for key, weights in parts.items()]
        self.optimizer = self._join()

    def _split(self):
        """{(name, factor, steps): weights}."""
        fixed = isinstance(schedule_of(self.template), keras.Variable)
        parts = {}
        for name, factor, weights in self.groups:
            known = [self.memories[id(weight)].steps for weight in weights if id(weight) in self.memories]
            shared = max(known, default=0) if self.kind in TIMELESS and fixed else None
            for weight in weights:
                memory = self.memories.get(id(weight))
                steps = shared if shared is not None else memory.steps if memory else 0
                parts.setdefault((name, factor, steps), []).append(weight)
        return parts

    def _copy(self, key, weights, alone):
        name, factor, steps = key
        config = {**self.template.get_config(), "learning_rate": self._rate(factor, steps)}
        if not alone:
            config["name"] = f"{name}_after_{steps}" if steps else name
        excluded = excluded_from_weight_decay(self.template, weights)
        if len(excluded) == len(weights) and config.get("weight_decay") is not None:
            config["weight_decay"], excluded = 0.0, []  # under PyTorch, Keras fails where all weights are excluded
        copy = type(self.template).from_config(config)
        if excluded:
            copy.exclude_from_weight_decay(excluded)
        return copy

    def _rate(self, factor, steps):
        rate = schedule_of(self.template)
        if isinstance(rate, keras.Variable):
            return factor * float(ops.convert_to_numpy(rate))
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            return PhaseSchedule(rate, factor, steps) if steps or factor != 1 else rate
        return rate if factor == 1 else lambda: factor * rate()

    def _join(self):
        if len(self.parts) == 1:
            joined = self.parts[0][0]
        else:
            chosen = {id(weight): copy for copy, weights in self.parts for weight in weights}
            paths = {weight.path: chosen[id(weight)] for _, weights in self.parts for weight in weights}
            unique = len(paths) == len(chosen)
            named = keras.optimizers.OptimizerMap(self.parts[0][0], paths) if unique else None
            joined = keras.optimizers.MultiOptimizer(named or (lambda weight: chosen[id(weight)]))
        if self.scaling is None:
            return joined
        config = {name: value for name, value in self.scaling.get_config().items() if name != "inner_optimizer"}
        return type(self.scaling)(joined, **config)

    def recall(self, model, loss_scale=None):
        """Builds the optimizer of a compiled model and gives it what was remembered."""
        model.optimizer.build(model.trainable_variables)
        for copy, weights in self._built(model):
            recall(copy, weights, [self.memories.get(id(weight)) for weight in weights])
        if loss_scale is not None and hasattr(model.optimizer, "dynamic_scale"):
            model.optimizer.dynamic_scale.assign(loss_scale)

    def remember(self, model):
        """({id of a weight: `Memory`}, loss scale) as the phase has left them."""
        found = {}
        for copy, weights in self._built(model):
            found |= {id(w): memory for w, memory in zip(weights, remember(copy, weights), strict=True)}
        scale = getattr(model.optimizer, "dynamic_scale", None)
        return found, None if scale is None else float(ops.convert_to_numpy(scale))

    def _built(self, model):
        """The copies, each with its weights in the order that it was built for."""
        order = {id(weight): number for number, weight in enumerate(model.trainable_variables)}
        assert {id(copy) for copy in members(model.optimizer)} == {id(copy) for copy, _ in self.parts}
        return [(copy, sorted(weights, key=lambda weight: order[id(weight)])) for copy, weights in self.parts]
