"""Submission: store inputs and manifest in S3, and submit each round of a run to Batch."""
