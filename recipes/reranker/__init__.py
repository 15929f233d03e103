"""Trains and measures the local reranker, which tells whether a sentence answers a question."""
