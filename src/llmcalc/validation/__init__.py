"""Predictions beside what programs printed."""
