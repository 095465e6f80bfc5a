from typing import Literal

from keras_reg._validation import check_choice, check_integer
from keras_reg.transfer._phase import Phase, default_optimizer

# A rule of thumb: with fewer images than this, fine-tuning overfits.
FEW = 1000
TOP_LAYERS = 20


def suggest_phases(num_examples: int, similarity: Literal["similar", "different"]) -> list[Phase]:
    """Suggests phases by the size of the data and its similarity to the backbone's training data.

    | | similar | different |
    | --- | --- | --- |
    | up to 1000 examples | a linear head on the features | a linear head on the features of an earlier stage |
    | more | warm up, then fine-tune the last layers | warm up, then fine-tune all layers |

    Few and different examples are the hard case: late features are too specific and early ones too generic. Try
    several stages: `TransferLearner(keras.Model(backbone.input, backbone.get_layer("block4_pool").output), ...)`.

    The warm-up is 10 epochs of SGD(1e-3, momentum=0.9), fine-tuning 10 epochs of SGD(1e-4, momentum=0.9).

    Args:
        num_examples: Number of labeled training examples, an integer of at least 1.
        similarity: "similar" or "different": whether the images resemble those that the backbone was trained on.

    Returns:
        A list of `Phase` for `TransferLearner.fit`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> keras_reg.transfer.suggest_phases(50_000, "different")
    [<Phase 'warm up': 10 epochs>, <Phase 'fine-tune': 10 epochs, unfreeze='all'>]

    References:
        - The transfer-learning notes of Stanford's CS231n have this table without numbers; the numbers are ours.
    """
    num_examples = check_integer("num_examples", num_examples, low=1)
    similarity = check_choice("similarity", similarity, ("similar", "different"))
    if num_examples <= FEW:
        name = "linear head" if similarity == "similar" else "linear head on an earlier stage"
        return [Phase(name, 10, optimizer=default_optimizer())]
    return default_phases(unfreeze=TOP_LAYERS if similarity == "similar" else "all")


def default_phases(unfreeze="all"):
    """Returns two phases: warm up the head, then fine-tune with a smaller learning rate."""
    return [
        Phase("warm up", 10, optimizer=default_optimizer()),
        Phase("fine-tune", 10, unfreeze=unfreeze, optimizer=default_optimizer(unfreeze)),
    ]
