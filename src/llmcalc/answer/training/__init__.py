"""Training: from keywords to a report, what fits, and what would help."""
