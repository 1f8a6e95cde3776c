"""Pure questions to tensors and graphs."""
