"""Scaling laws: leaf formulas, and the laws of the catalog over them.

`loss`, `optimum`, `terms`, `repeated`, `experts` and `rates` hold the formulas; `forms` says which of them
a form of the catalog takes; `laws` finds a law and asks it; `numeric` solves what has no closed form. All
run on plain numbers without numpy, and on arrays with it.
"""
