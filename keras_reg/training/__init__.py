from keras_reg.training._regularized_model import RegularizedModel

__all__ = ["RegularizedModel"]
