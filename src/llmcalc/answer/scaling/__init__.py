"""Questions to scaling laws: how to split a training budget, which learning rate and batch."""
