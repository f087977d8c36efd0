"""Scaling laws: predicted, optimised, fitted."""
