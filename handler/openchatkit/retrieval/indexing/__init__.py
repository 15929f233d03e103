"""Building an index: list files, read them, drop what stands there twice, embed, pack.

Serving needs none of it.
"""
