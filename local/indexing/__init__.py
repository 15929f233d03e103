"""`ock index`: build, change, look at and search an index of documents. It runs on this machine."""
