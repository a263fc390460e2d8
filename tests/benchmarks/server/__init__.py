"""Measure the server of the embedded cloud by itself."""
