"""`llmcalc ppl`: from one measure of a text to all others."""
