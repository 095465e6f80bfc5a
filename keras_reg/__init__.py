"""The regularization toolbox for Keras 3."""

from keras_reg import callbacks, layers, losses, surgery, training, transfer

__version__ = "0.1.0"

__all__ = ["callbacks", "layers", "losses", "surgery", "training", "transfer"]
