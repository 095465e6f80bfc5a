"""What is said while training goes on."""

import logging

import keras


def say(message):
    """Prints a line, or logs it where `keras.config.disable_interactive_logging` was called, as Keras does."""
    if keras.config.is_interactive_logging_enabled():
        print(message)
    else:
        logging.getLogger("keras_reg").info(message)
