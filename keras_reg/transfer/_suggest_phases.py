import keras

from keras_reg._validation import check_choice, check_integer
from keras_reg.transfer._phase import Phase

# A rule of thumb: below about this many images, fine-tuning rather fits their noise.
FEW = 1000
TOP_LAYERS = 20


def suggest_phases(num_examples, similarity):
    """A recipe from the size of the data and its likeness to what the backbone was trained on: the four usual cases.

    | | similar | different |
    | --- | --- | --- |
    | up to 1000 examples | a linear head on the features | a linear head, on features of an earlier stage |
    | more | warm up, then fine-tune the last layers | warm up, then fine-tune all layers |

    Few and different is the hard case: late features are too special and early ones too plain. Try the stages in
    turn: `TransferLearner(keras.Model(backbone.input, backbone.get_layer("block4_pool").output), ...)`.

    The warm-up is SGD(1e-3, momentum=0.9) for 10 epochs, fine-tuning SGD(1e-4, momentum=0.9) for 10.

    Args:
        num_examples: How many labelled examples there are to train on, an integer of at least 1.
        similarity: "similar" or "different".

    Returns:
        A list of `Phase` for `TransferLearner.fit`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> keras_reg.transfer.suggest_phases(50_000, "different")
    [<Phase 'warm up': 10 epochs>, <Phase 'fine-tune': 10 epochs, unfreeze='all'>]

    References:
        - The transfer-learning notes of Stanford's CS231n, which give the table without numbers; those are ours.
    """
    num_examples = check_integer("num_examples", num_examples, low=1)
    similarity = check_choice("similarity", similarity, ("similar", "different"))
    if num_examples <= FEW:
        name = "linear head" if similarity == "similar" else "linear head on an earlier stage"
        return [Phase(name, 10, optimizer=keras.optimizers.SGD(1e-3, momentum=0.9))]
    return default_phases(unfreeze=TOP_LAYERS if similarity == "similar" else "all")


def default_phases(unfreeze="all"):
    """Warm up the head, then train on with a small rate."""
    return [
        Phase("warm up", 10, optimizer=keras.optimizers.SGD(1e-3, momentum=0.9)),
        Phase("fine-tune", 10, unfreeze=unfreeze, optimizer=keras.optimizers.SGD(1e-4, momentum=0.9)),
    ]
