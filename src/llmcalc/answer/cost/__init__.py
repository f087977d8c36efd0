"""Time, energy and money of training, fine-tuning and serving."""
