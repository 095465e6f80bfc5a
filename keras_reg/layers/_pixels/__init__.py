"""What is done to pixels: how they are mixed, filled and moved, for compilers and for the host."""
