"""From a resolved scenario to a report: items, peak, capacity, neighbours, heading.

One file a question; `llmcalc.api` is their public face.
"""
