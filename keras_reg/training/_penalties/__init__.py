"""Terms that `RegularizedModel` adds to the loss."""
