"""Passages for an answer: encoder, documents, index, sources, and the system that asks them all."""
