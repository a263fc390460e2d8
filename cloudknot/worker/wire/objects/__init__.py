"""Pickle objects that cloudpickle alone cannot, and make classes from pickles, on both sides of the wire."""
