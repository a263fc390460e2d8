"""The one reading of a request. The gate decides on it, and the services receive exactly what was read.

A request that two readers could understand differently is refused.
"""
