"""Training on many GPUs: what a rank holds of the model, and what sharding and communication add."""
