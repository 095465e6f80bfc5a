"""The optimizer state of each weight, and how it carries over from one phase to the next."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_reg._optimizers import iteration_of, rate_of
from keras_reg._storage import without_bfloat16

# Optimizers whose state carries over, since we know what it means. That of all others starts afresh.
KNOWN = (
    "SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Adagrad", "Adadelta", "Adafactor", "Lion", "Lamb",
)  # fmt: skip
# These do not use the number of steps, so old and new weights can share one of them.
TIMELESS = ("SGD", "RMSprop", "Adagrad", "Adadelta", "Lion")
# Velocities that contain the rate, v = m * v - rate * g, and have to be scaled with it.
VELOCITIES = {"SGD": ("momentums",), "RMSprop": ("_momentums",)}
AVERAGES, ACCUMULATORS = "_model_variables_moving_average", "_accumulated_gradients"


@dataclasses.dataclass
class Memory:
    """The state that an optimizer has kept for one weight.

    Attributes:
        kind: Name of the optimizer's class.
        steps: Number of steps for which the weight has been trained.
        rate: Learning rate of the last of these steps.
        slots: {attribute of the optimizer: the array that belongs to the weight}.
        scalars: State of the whole optimizer, such as the running product of Nadam.
    """

    kind: str
    steps: int
    rate: float
    slots: dict[str, np.ndarray]
    scalars: dict[str, float]


def kind_of(optimizer):
    """Returns the name of one of Keras' own optimizers in `KNOWN`, else `None`: a subclass may do anything."""
    cls = type(optimizer)
    known = cls.__name__ in KNOWN and isinstance(optimizer, getattr(keras.optimizers, cls.__name__))
    return cls.__name__ if known and cls.__module__.split(".")[0] == "keras" else None


def has_fixed_rate(optimizer):
    """Returns whether the learning rate is a number that only a user or a callback changes."""
    return isinstance(optimizer.learning_rate, keras.Variable)


def schedule_of(optimizer):
    """Returns the `LearningRateSchedule` of an optimizer, or `None` if its rate is a number or a function.

    The property `learning_rate` only gives the rate of the present step, and a config only a copy of the schedule.
    """
    kind = keras.optimizers.schedules.LearningRateSchedule
    return next((value for value in vars(optimizer).values() if isinstance(value, kind)), None)


def rate_at(optimizer, step):
    """Returns the learning rate of the step with this number."""
    schedule = schedule_of(optimizer)
    return rate_of(optimizer) if schedule is None else float(ops.convert_to_numpy(schedule(step)))


def slots_of(optimizer, count):
    """Returns {attribute: optimizer variables} of the attributes that hold one variable for each of `count` weights."""
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
    """Returns the variables of the whole optimizer, except the learning rate and the number of steps."""
    known = (iteration_of(optimizer), optimizer.learning_rate)
    return {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, keras.Variable) and not any(value is variable for variable in known)
    }


def remember(optimizer, weights, rate=None):
    """Returns the `Memory` of each of the weights that one optimizer, not a wrapper, was built for.

    `rate` is the learning rate of the last step, if it may have changed since.
    """
    steps = int(ops.convert_to_numpy(iteration_of(optimizer)))
    rate = rate_at(optimizer, max(steps - 1, 0)) if rate is None else rate
    slots = slots_of(optimizer, len(weights))
    scalars = {name: float(ops.convert_to_numpy(value)) for name, value in _scalars_of(optimizer).items()}
    kind = kind_of(optimizer)
    return [
        Memory(kind, steps, rate, {name: copied(of[i]) for name, of in slots.items() if of[i] is not None}, scalars)
        for i in range(len(weights))
    ]


def copied(variable):
    """Returns a copy of a variable's value as a NumPy array, with bfloat16 as float32."""
    return np.array(without_bfloat16(ops.convert_to_numpy(variable)))


def recall(optimizer, weights, memories):
    """Puts the memories of `weights` into one optimizer built for them; `None` starts a weight with a new state."""
    kept = [memory for memory in memories if memory is not None]
    period = optimizer.gradient_accumulation_steps or 1
    steps = max((memory.steps for memory in kept), default=0) // period * period
    iteration_of(optimizer).assign(steps)
    for name, variable in _scalars_of(optimizer).items():
        if kept and name in kept[0].scalars:
            variable.assign(kept[0].scalars[name])
    for name, variables in slots_of(optimizer, len(weights)).items():
        for variable, weight, memory in zip(variables, weights, memories, strict=True):
            if name == AVERAGES:
                # As at the end of every `fit`. A copy, since on JAX a step donates the buffers of both.
                variable.assign(np.array(ops.convert_to_numpy(weight)))
            elif memory is not None and name != ACCUMULATORS and name in memory.slots:
                variable.assign(memory.slots[name] * _factor(optimizer, name, memory, steps))


def _factor(optimizer, slot, memory, steps):
    """Returns the factor that turns a velocity under the old rate into one under the new rate."""
    if slot not in VELOCITIES.get(memory.kind, ()):
        return 1.0
    return rate_at(optimizer, steps) / memory.rate if memory.rate else 0.0
