"""Functions, gates, counters and paths that tests of several folders use."""
