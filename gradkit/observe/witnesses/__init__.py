"""Look through one instrumented window: values, writes, dropout, lines."""
