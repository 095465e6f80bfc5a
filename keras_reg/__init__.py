"""The regularization toolbox for Keras 3."""

from keras_reg import callbacks, inference, layers, losses, metrics, surgery, training, transfer
from keras_reg._strength import Strength

__version__ = "0.1.0"

__all__ = ["Strength", "callbacks", "inference", "layers", "losses", "metrics", "surgery", "training", "transfer"]
