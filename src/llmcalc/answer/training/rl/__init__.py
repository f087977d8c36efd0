"""One iteration of reinforcement learning: rollout, forward passes, updates, on the same GPUs or apart."""
