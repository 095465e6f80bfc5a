from keras_reg._renamed import renamed_in
from keras_reg.training._regularized_model import RegularizedModel
from keras_reg.training._sharpness_aware import SharpnessAware

__all__ = ["RegularizedModel", "SharpnessAware"]

__getattr__ = renamed_in(__name__, AugmentedModel="RegularizedModel")
