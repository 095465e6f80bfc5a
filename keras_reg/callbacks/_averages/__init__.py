"""How `WeightAverage` averages the weights of a model.

- `_running_average`: holds the average in variables on the device, and updates it.
- `_saved`: lets files of the model's weights contain the average.
- `_exchange`: puts the average into the model, and the trained weights back.
"""
