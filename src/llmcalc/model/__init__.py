"""What a model is: the inventory, the layer builders, the families and the readers."""
