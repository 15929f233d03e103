"""Moderation: judges, the policy that acts on their verdicts, and release of cleared text only."""
