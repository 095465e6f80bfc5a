from keras_reg.losses._label_smoothing_crossentropy import LabelSmoothingCrossentropy, label_smoothing_crossentropy

__all__ = ["LabelSmoothingCrossentropy", "label_smoothing_crossentropy"]
