from keras_reg.transfer._freeze import freeze, unfreeze
from keras_reg.transfer._phase import Phase
from keras_reg.transfer._suggest_phases import suggest_phases

__all__ = ["Phase", "freeze", "suggest_phases", "unfreeze"]
