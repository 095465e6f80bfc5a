from keras_reg.surgery._exclude_from_weight_decay import exclude_from_weight_decay
from keras_reg.surgery._regularize import regularize

__all__ = ["exclude_from_weight_decay", "regularize"]
