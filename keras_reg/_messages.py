"""Messages during training."""

import logging

import keras


def say(message):
    """Prints a line, or logs it after `keras.config.disable_interactive_logging`, as Keras does."""
    if keras.config.is_interactive_logging_enabled():
        print(message)
    else:
        logging.getLogger("keras_reg").info(message)
