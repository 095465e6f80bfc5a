"""The line that is printed before each phase, and the summary of all phases."""

from keras_reg._inner_layers import inside
from keras_reg._messages import first_of
from keras_reg.transfer._layers import count, is_normalization, own_weights
from keras_reg.transfer._rates import depths
from keras_reg.transfer._slots import has_fixed_rate, rate_at, schedule_of


def phase_line(number, total, phase, parts, optimizer, reason, kept_frozen):
    """Returns one line: how many parameters train, in which layers and at which rate, and notes on special cases."""
    trained = count(weight for _, weights in optimizer.parts for weight in weights)
    text = (
        f"Phase {number + 1} of {total}, {phase.name!r}: {_many(phase.epochs, 'epoch')}, {trained:,} of "
        f"{count(parts.model.weights):,} parameters train: {_where(phase, parts.backbone, optimizer)}"
    )
    notes = [
        *_notes_on_features(phase, reason),
        *_notes_on_layers(phase, parts.backbone, kept_frozen),
        *_notes_on_optimizer(optimizer, phase),
    ]
    return "; ".join([text, *notes]) + "."


def _where(phase, backbone, optimizer):
    rate = rate_at(optimizer.template, 0)
    kind = "" if has_fixed_rate(optimizer.template) else f", then by {_name_of_schedule(optimizer.template)}"
    layers = [layer.name for layer in inside(backbone) if any(w.trainable for w in own_weights(layer))]
    if not layers:
        return f"the head at {rate:.4g}{kind}; {backbone.name} is frozen"
    if phase.layer_decay is None:
        few = f"{layers[0]} to {layers[-1]}" if len(layers) > 1 else layers[0]
        return f"the head and {_many(len(layers), 'layer')} of {backbone.name} ({few}) at {rate:.4g}{kind}"
    blocks = [(name, factor) for name, factor, _ in optimizer.groups if name in depths(backbone)]
    (last, high), (first, low) = blocks[0], blocks[-1]
    return (
        f"the head at {rate:.4g}{kind}, {_many(len(blocks), 'block')} of {backbone.name} "
        f"from {last} at {rate * high:.4g} to {first} at {rate * low:.4g}"
    )


def _name_of_schedule(optimizer):
    schedule = schedule_of(optimizer)
    return "a function" if schedule is None else type(schedule).__name__


def _many(number, thing):
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _notes_on_features(phase, reason):
    if phase.unfreeze is not None:
        return []
    return ["features are computed once" if reason is None else f"features are not computed once: {reason.text}"]


def _notes_on_layers(phase, backbone, kept_frozen):
    if phase.unfreeze is None:
        return []
    layers = inside(backbone)
    frozen = [layer for layer in layers if is_normalization(layer) and not layer.trainable]
    notes = [f"{_stays(len(frozen), 'batch normalization')} in inference mode"] if frozen else []
    still = [
        layer.name
        for layer in layers
        if id(layer) in kept_frozen and layer not in frozen and own_weights(layer) and not layer.trainable
    ]
    if still:
        notes.append(f"{_stays(len(still), 'layer')} frozen, as before: {first_of(still, 3)}")
    return notes


def _stays(number, thing):
    return f"{_many(number, thing)} {'stays' if number == 1 else 'stay'}"


def _notes_on_optimizer(optimizer, phase):
    notes = []
    name = type(optimizer.template).__name__
    if optimizer.forgotten:
        notes.append(f"{name} starts with a new state for all weights, since this Keras has no MultiOptimizer")
    elif optimizer.dropped:
        notes.append(f"{name} starts with a new state for all weights, since another optimizer trained them before")
    if optimizer.template.global_clipnorm and len(optimizer.parts) > 1:
        notes.append(f"global_clipnorm is applied to each of {len(optimizer.parts)} groups of weights separately")
    return notes


def summary_lines(parts, histories):
    """Returns lines on the parts of a transfer, and on the last values of each phase."""
    lines = [
        f"{parts.model.name}: {count(parts.model.weights):,} parameters",
        f"  backbone: {parts.backbone.name}, {count(parts.backbone.weights):,} parameters",
        f"  head: {parts.head.name}, {count(parts.head.weights):,} parameters",
        *(f"  {note}" for note in parts.notes),
    ]
    if parts.augmentation is not None:
        lines.append(f"  Augmentation in training: {parts.augmentation.name}.")
    for name, history in histories.items():
        last = {key: [value for value in values if value is not None][-1:] for key, values in history.history.items()}
        reached = ", ".join(f"{key} {values[0]:.4g}" for key, values in last.items() if values)
        lines.append(f"  {name!r}, {_many(len(history.epoch), 'epoch')}: {reached}")
    return lines
