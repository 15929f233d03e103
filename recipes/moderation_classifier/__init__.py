"""Trains and measures the local moderation classifier."""
