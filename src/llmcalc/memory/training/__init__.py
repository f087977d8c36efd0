"""What training holds: activations, gradients and temporaries, moment by moment."""
