"""What is said before each phase, and about all of them."""

import keras

from keras_reg.transfer._layers import count, inside, is_normalization, own_weights
from keras_reg.transfer._rates import depths
from keras_reg.transfer._slots import rate_at, schedule_of


def phase_line(number, total, phase, learner, made, refusal, closed):
    """One line: how many parameters train in which layers at which rate, and what is done about features."""
    trained = count(weight for _, weights in made.parts for weight in weights)
    text = (
        f"Phase {number + 1} of {total}, {phase.name!r}: {_many(phase.epochs, 'epoch')}, {trained:,} of "
        f"{count(learner.model.weights):,} parameters train: {_where(phase, learner, made)}"
    )
    notes = [
        *_notes_on_features(phase, refusal),
        *_notes_on_layers(phase, learner, closed),
        *_notes_on_optimizer(made, phase),
    ]
    return "; ".join([text, *notes]) + "."


def _where(phase, learner, made):
    backbone = learner.backbone
    rate = rate_at(made.template, 0)
    schedule = schedule_of(made.template)
    kind = "" if isinstance(schedule, keras.Variable) else f" and on by {type(schedule).__name__}"
    layers = [layer.name for layer in inside(backbone) if any(w.trainable for w in own_weights(layer))]
    if not layers:
        return f"the head at {rate:.4g}{kind}; {backbone.name} is frozen"
    if phase.layer_decay is None:
        few = f"{layers[0]} to {layers[-1]}" if len(layers) > 1 else layers[0]
        return f"the head and {_many(len(layers), 'layer')} of {backbone.name} ({few}) at {rate:.4g}{kind}"
    blocks = [(name, factor) for name, factor, _ in made.groups if name in depths(backbone)]
    (last, high), (first, low) = blocks[0], blocks[-1]
    return (
        f"the head at {rate:.4g}{kind}, {_many(len(blocks), 'block')} of {backbone.name} "
        f"from {last} at {rate * high:.4g} to {first} at {rate * low:.4g}"
    )


def _many(number, thing):
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _notes_on_features(phase, refusal):
    if phase.unfreeze is not None:
        return []
    return ["features are computed once" if refusal is None else f"features are not computed once: {refusal.reason}"]


def _notes_on_layers(phase, learner, closed):
    if phase.unfreeze is None:
        return []
    layers = inside(learner.backbone)
    frozen = [layer for layer in layers if is_normalization(layer) and not layer.trainable]
    notes = [f"{_stays(len(frozen), 'batch normalization')} in inference mode"] if frozen else []
    still = [
        layer.name
        for layer in layers
        if id(layer) in closed and layer not in frozen and own_weights(layer) and not layer.trainable
    ]
    if still:
        some = ", ".join(still[:3]) + (f" and {len(still) - 3} more" if len(still) > 3 else "")
        notes.append(f"{_stays(len(still), 'layer')} frozen as {'it was' if len(still) == 1 else 'they were'}: {some}")
    return notes


def _stays(number, thing):
    return f"{_many(number, thing)} {'stays' if number == 1 else 'stay'}"


def _notes_on_optimizer(made, phase):
    notes = []
    name = type(made.template).__name__
    if made.forgotten:
        notes.append(f"{name} starts afresh for all weights, since this Keras has no MultiOptimizer")
    elif made.dropped:
        notes.append(f"{name} starts afresh for all weights: their state is that of another optimizer")
    if made.template.global_clipnorm and len(made.parts) > 1:
        notes.append(f"global_clipnorm holds for each of {len(made.parts)} groups of weights by itself")
    return notes


def summary_lines(learner):
    """The parts of a learner, and what its phases have reached."""
    lines = [
        f"{learner.model.name}: {count(learner.model.weights):,} parameters",
        f"  backbone: {learner.backbone.name}, {count(learner.backbone.weights):,} parameters",
        f"  head: {learner.parts.head.name}, {count(learner.parts.head.weights):,} parameters",
        *(f"  {note}" for note in learner.parts.notes),
    ]
    if learner.augmentation is not None:
        lines.append(f"  Augmentation in training: {learner.augmentation.name}.")
    for name, history in learner.history.items():
        last = {key: [value for value in values if value is not None][-1:] for key, values in history.history.items()}
        reached = ", ".join(f"{key} {values[0]:.4g}" for key, values in last.items() if values)
        lines.append(f"  {name!r}, {_many(len(history.epoch), 'epoch')}: {reached}")
    return lines
