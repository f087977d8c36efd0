"""Programs of others that are asked for the numbers to compare with, and the files to ask about."""
