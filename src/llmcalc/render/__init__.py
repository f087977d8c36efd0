"""Renderers: one file a format. They read a report's figures and never make any."""
