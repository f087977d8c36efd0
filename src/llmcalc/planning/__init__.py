"""Inverse questions: the longest context, the most sequences, what llama-server would choose."""
