"""Memory estimators: inference now, training beside it."""
