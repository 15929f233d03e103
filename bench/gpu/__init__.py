"""One GPU, one command: what the model alone does, what a whole moderated turn does, and their ratio."""
