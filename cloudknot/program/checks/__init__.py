"""Checks of a function before it travels: parts that cannot be pickled, and changes that a job would not see."""
