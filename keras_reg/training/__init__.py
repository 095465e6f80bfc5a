from keras_reg._renamed import renamed_in
from keras_reg.training._regularized_model import RegularizedModel

__all__ = ["RegularizedModel"]

__getattr__ = renamed_in(__name__, AugmentedModel="RegularizedModel")
