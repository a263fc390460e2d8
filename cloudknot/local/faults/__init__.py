"""Faults that a test or a user switches on. All are off by default."""
