"""`llmcalc index`: what embeddings for retrieval take, by store and kind of index."""
