"""Mixed integer labels, as the losses of `compile` receive them in place of an array."""

from typing import Any

from keras_reg._validation import fail


class LabelTerms:
    """The labels of mixed samples, one array per term. Only a `MixedLoss` reads it.

    It takes the place of an array of labels, which cannot represent mixed integers. Any other use of it raises an
    error, since the result would be wrong.

    Args:
        terms: The arrays, each as long as the batch.
        weights: The weight of each term, (batch, terms).
    """

    def __init__(self, terms: Any, weights: Any) -> None:
        self.terms, self.weights = tuple(terms), weights

    def __getattr__(self, name: str) -> Any:
        _refuse(self)

    def __repr__(self) -> str:
        return f"integer labels of {len(self.terms)} mixed samples"


def _refuse(labels, *others):
    fail(
        "Mixed integer labels are several terms, not one array. The `compute_loss` of a network can use them only with "
        "the losses passed to `compile`. Pass one-hot labels (floats), which are mixed to one array.",
        y=labels,
    )


_OPERATORS = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul and rand or ror "
    "xor rxor neg pos abs invert lt le gt ge eq ne bool int float index len iter contains getitem array"
)
for _operator in _OPERATORS.split():
    setattr(LabelTerms, f"__{_operator}__", _refuse)  # Python does not ask `__getattr__` for them
