"""The CDK app; see `stacks/settings.py` for what it can be told."""
