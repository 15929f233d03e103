"""Measurements that the repository's figures come from: a table, then one last line of JSON."""
