"""Text metrics: how well a model predicts a text, in every unit, and how much text there is."""
