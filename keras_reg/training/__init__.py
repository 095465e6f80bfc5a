from keras_reg.training._augmented_model import AugmentedModel

__all__ = ["AugmentedModel"]
