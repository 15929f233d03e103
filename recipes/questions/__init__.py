"""Written documents and questions; the reranker and the demonstration model learn from them."""
