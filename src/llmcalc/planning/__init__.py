"""Inverse questions: the longest context, the most sequences, what llama-server chooses by itself."""
