"""mlx-lm on Apple silicon: one file for Metal's command buffers, one for a pass, caches and items."""
