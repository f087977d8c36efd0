"""Readers: each turns one kind of input into an `Inventory`."""
