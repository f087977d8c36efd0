"""Laws fitted to runs: reading a table, the forms, the search, the bootstrap, what the data can tell.

Everything here works on numpy arrays. Nothing of it is imported before somebody fits.
"""
