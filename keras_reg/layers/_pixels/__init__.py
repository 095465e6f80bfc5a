"""Operations on pixels: mixing, filling, moving and flipping, with kernels for compilers and for the host."""
