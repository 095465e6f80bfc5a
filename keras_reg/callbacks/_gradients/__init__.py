"""How `GradientHistograms` sees the gradients of a training step, from the device to the history.

- `_callback`: decides which steps are watched and reads what they showed.
- `_train_step`: replaces the model's train function for one call.
- `_optimizer`: passes the gradients of that call to the statistics, then to the user's optimizer.
- `_statistics`: holds counts and norms in variables on the device; `_buckets` computes them.
- `_history`: turns them into the records of the history; `_tensorboard` and `_plot` show those.
- `_arguments`: checks the arguments and matches paths of weights.
"""
