"""The optimizer of a phase: created from a template, with the state of the weights that were trained before."""

import keras
from keras import ops

from keras_reg._optimizers import members, rate_of, unwrapped
from keras_reg.transfer._rates import PhaseSchedule
from keras_reg.transfer._slots import TIMELESS, has_fixed_rate, kind_of, recall, remember, schedule_of
from keras_reg.transfer._weight_decay import excluded_from_weight_decay


class LastRates(keras.callbacks.Callback):
    """Keeps the learning rates of the last step. It must come before callbacks that change them after an epoch.

    Args:
        optimizers: Optimizers whose learning rates are numbers.

    Attributes:
        found: {id of an optimizer: its rate}.
    """

    def __init__(self, optimizers):
        super().__init__()
        self.optimizers, self.found = optimizers, {}

    def on_epoch_end(self, epoch, logs=None):
        if self.model is not None:  # on JAX, this copies the state of the compiled step back to the model
            self.found = {id(optimizer): rate_of(optimizer) for optimizer in self.optimizers}


class PhaseOptimizer:
    """Copies of a template: one for each rate and each number of steps that weights were trained for before.

    Adam, for one, has a single step counter for all of its weights.

    Args:
        template: The optimizer of the phase.
        groups: [(name, factor of the rate, weights)].
        memories: {id of a weight: `Memory`}.
    """

    def __init__(self, template, groups, memories):
        # A `LossScaleOptimizer` that was given wraps all copies.
        self.template = unwrapped(template)
        self.scaling = None if self.template is template else template
        self.kind = kind_of(self.template)
        self.memories = {key: memory for key, memory in memories.items() if memory.kind == self.kind is not None}
        self.groups = groups
        known = [memories[id(weight)] for _, _, weights in groups for weight in weights if id(weight) in memories]
        self.dropped = any(memory.kind != self.kind or self.kind is None for memory in known)
        self.forgotten = False
        parts = self._split()
        if len(parts) > 1 and not hasattr(keras.optimizers, "MultiOptimizer"):
            # Start afresh: with one step counter, either the new slots or the old ones would be wrong.
            self.memories, self.forgotten = {}, True
            parts = self._split()
        self.parts = [(self._copy(key, weights, len(parts) == 1), weights) for key, weights in parts.items()]
        self.optimizer = self._join()
        self.last_rates = LastRates([copy for copy, _ in self.parts if has_fixed_rate(copy)])

    def _split(self):
        """Returns {(name, factor, steps): weights}."""
        has_schedule = schedule_of(self.template) is not None
        parts = {}
        for name, factor, weights in self.groups:
            known = [self.memories[id(weight)].steps for weight in weights if id(weight) in self.memories]
            shared = max(known, default=0) if self.kind in TIMELESS and not has_schedule else None
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
            config["weight_decay"], excluded = 0.0, []  # on PyTorch, Keras fails if all weights are excluded
        copy = type(self.template).from_config(config)
        if excluded:
            copy.exclude_from_weight_decay(excluded)
        return copy

    def _rate(self, factor, steps):
        template, schedule = self.template, schedule_of(self.template)
        if has_fixed_rate(template):
            return factor * rate_of(template)
        if schedule is not None:
            return PhaseSchedule(schedule, factor, steps) if steps or factor != 1 else schedule
        return lambda: factor * template.learning_rate  # the property calls the user's function

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
        """Builds the optimizer of a compiled model and restores the state of the weights."""
        model.optimizer.build(model.trainable_variables)
        for copy, weights in self._built(model):
            recall(copy, weights, [self.memories.get(id(weight)) for weight in weights])
        if loss_scale is not None and hasattr(model.optimizer, "dynamic_scale"):
            model.optimizer.dynamic_scale.assign(loss_scale)

    def remember(self, model):
        """Returns ({id of a weight: `Memory`}, loss scale) at the end of the phase."""
        found = {}
        for copy, weights in self._built(model):
            memories = remember(copy, weights, self.last_rates.found.get(id(copy)))
            found |= {id(weight): memory for weight, memory in zip(weights, memories, strict=True)}
        scale = getattr(model.optimizer, "dynamic_scale", None)
        return found, None if scale is None else float(ops.convert_to_numpy(scale))

    def _built(self, model):
        """Returns the copies, each with its weights in the order for which it was built."""
        order = {id(weight): number for number, weight in enumerate(model.trainable_variables)}
        assert {id(copy) for copy in members(model.optimizer)} == {id(copy) for copy, _ in self.parts}
        return [(copy, sorted(weights, key=lambda weight: order[id(weight)])) for copy, weights in self.parts]
