"""Vector stores: how faiss and pgvector lay embeddings out in memory and on disk."""
