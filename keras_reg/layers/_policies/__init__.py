"""Operations, magnitudes and tables of learned policies."""
