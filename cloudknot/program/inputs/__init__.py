"""Inputs of a program: pickle them, with the classes that a job lacks."""
