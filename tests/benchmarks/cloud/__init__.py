"""Benchmarks of the embedded cloud alone."""
