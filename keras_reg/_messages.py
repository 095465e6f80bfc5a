"""Messages during training."""

import logging

import keras


def say(message):
    """Prints a line, or logs it after `keras.config.disable_interactive_logging`, as Keras does."""
    if keras.config.is_interactive_logging_enabled():
        print(message)
    else:
        logging.getLogger("keras_reg").info(message)


def first_of(names, most):
    """Returns names separated by commas, at most `most` of them, and the number of the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
