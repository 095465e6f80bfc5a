from keras_reg.callbacks._divergence_stop import DivergenceStop
from keras_reg.callbacks._exponential_lr import ExponentialLR
from keras_reg.callbacks._persist import persist
from keras_reg.callbacks._smoothed_early_stopping import SmoothedEarlyStopping

__all__ = ["DivergenceStop", "ExponentialLR", "SmoothedEarlyStopping", "persist"]
