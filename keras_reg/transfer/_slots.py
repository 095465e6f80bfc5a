"""What an optimizer remembers of each weight, and how it crosses from one phase to the next."""

import dataclasses

import keras
import numpy as np
from keras import ops

# What optimizers do with what they remember. Their state crosses; that of others, which we do not know, starts afresh.
KNOWN = (
    "SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Adagrad", "Adadelta", "Adafactor", "Lion", "Lamb",
)  # fmt: skip
# These never look at the number of steps, so that old and new weights may share one of them.
TIMELESS = ("SGD", "RMSprop", "Adagrad", "Adadelta", "Lion")
# Velocities that contain the rate, v = m * v - rate * g: under another rate they are other numbers.
VELOCITIES = {"SGD": ("momentums",), "RMSprop": ("_momentums",)}
AVERAGES, ACCUMULATORS = "_model_variables_moving_average", "_accumulated_gradients"


@dataclasses.dataclass
class Memory:
    """What an optimizer has remembered of one weight.

    Attributes:
        kind: The name of the optimizer's class.
        steps: How many steps the weight has been trained.
        rate: The rate of the last of them.
        slots: The arrays that belong to the weight, by the name of the attribute.
        scalars: What the optimizer remembers beside, as the running product of Nadam.
    """

    kind: str
    steps: int
    rate: float
    slots: dict[str, np.ndarray]
    scalars: dict[str, float]


def members(optimizer):
    """The optimizers that move weights, behind those that wrap them."""
    if hasattr(optimizer, "inner_optimizer"):
        return members(optimizer.inner_optimizer)
    return list(optimizer.optimizers) if hasattr(optimizer, "optimizers") else [optimizer]


def kind_of(optimizer):
    """The name of one of Keras' own optimizers that we know, or `None`: a subclass may do anything."""
    cls = type(optimizer)
    known = cls.__name__ in KNOWN and isinstance(optimizer, getattr(keras.optimizers, cls.__name__))
    return cls.__name__ if known and cls.__module__.split(".")[0] == "keras" else None


def iteration(optimizer):
    """The variable that counts calls; the property `iterations` counts updates under gradient accumulation."""
    return next(variable for variable in optimizer.variables if variable.name == "iteration")


def schedule_of(optimizer):
    """The schedule, callable or variable that gives the rate."""
    return optimizer._learning_rate


def rate_at(optimizer, step):
    """The rate of the step with this number."""
    rate = schedule_of(optimizer)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(step)
    elif callable(rate):
        rate = rate()
    return float(ops.convert_to_numpy(rate))


def slots_of(optimizer, count):
    """The lists of optimizer variables with one entry for each of `count` weights, by the name of the attribute."""
    own = {id(variable) for variable in optimizer.variables}
    return {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, (list, tuple))
        and len(value) == count
        and name != "_variables"
        and any(variable is not None for variable in value)
        and all(variable is None or id(variable) in own for variable in value)
    }


def _scalars_of(optimizer):
    """Variables of the whole optimizer other than the rate and the number of steps."""
    known = {id(iteration(optimizer)), id(schedule_of(optimizer))}
    return {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, keras.Variable) and id(value) not in known
    }


def remember(optimizer, weights):
    """The `Memory` of each of the weights that one optimizer, no wrapper, was built for."""
    steps = int(ops.convert_to_numpy(iteration(optimizer)))
    rate = rate_at(optimizer, max(steps - 1, 0))
    slots = slots_of(optimizer, len(weights))
    scalars = {name: float(ops.convert_to_numpy(value)) for name, value in _scalars_of(optimizer).items()}
    kind = kind_of(optimizer)
    return [
        Memory(kind, steps, rate, {name: _array(of[i]) for name, of in slots.items() if of[i] is not None}, scalars)
        for i in range(len(weights))
    ]


def _array(variable):
    value = ops.convert_to_numpy(ops.cast(variable, "float32") if variable.dtype == "bfloat16" else variable)
    return np.array(value)


def recall(optimizer, weights, memories):
    """Gives one optimizer, built for `weights`, what was remembered; `None` among the memories starts afresh."""
    kept = [memory for memory in memories if memory is not None]
    period = optimizer.gradient_accumulation_steps or 1
    steps = max((memory.steps for memory in kept), default=0) // period * period
    iteration(optimizer).assign(steps)
    for name, variable in _scalars_of(optimizer).items():
        if kept and name in kept[0].scalars:
            variable.assign(kept[0].scalars[name])
    for name, variables in slots_of(optimizer, len(weights)).items():
        for variable, weight, memory in zip(variables, weights, memories, strict=True):
            if name == AVERAGES:
                # As it is after the end of every `fit`. A copy: on JAX a step gives away the buffers of both.
                variable.assign(np.array(ops.convert_to_numpy(weight)))
            elif memory is not None and name != ACCUMULATORS and name in memory.slots:
                variable.assign(memory.slots[name] * _factor(optimizer, name, memory, steps))


def _factor(optimizer, slot, memory, steps):
    """What makes a velocity under the old rate one under the new rate."""
    if slot not in VELOCITIES.get(memory.kind, ()):
        return 1.0
    return rate_at(optimizer, steps) / memory.rate if memory.rate else 0.0
