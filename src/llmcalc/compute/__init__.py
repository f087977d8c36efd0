"""Compute, time and cost: pure folds over an inventory's ops, and the leaf formulas they use."""
