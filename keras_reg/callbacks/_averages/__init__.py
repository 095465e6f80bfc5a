"""How `WeightAverage` averages the weights of a model.

- `_running_average`: holds the average in variables on the device, and updates it.
- `_exchange`: puts the average into the model, and the trained weights back.
"""
