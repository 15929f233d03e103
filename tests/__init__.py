"""Tests mirror the source: `tests/<area>/test_<module>.py`.

A package, because a dependency of the page installs a top-level `tests` of its own.
"""
