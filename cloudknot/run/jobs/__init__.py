"""Submitted maps, in this session or a later one: their state, their logs, retries and reductions."""
