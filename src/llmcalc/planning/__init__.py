"""Inverse questions: the longest context, the most sequences."""
