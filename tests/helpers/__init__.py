"""Functions, gates, counters and paths for tests in several folders."""
