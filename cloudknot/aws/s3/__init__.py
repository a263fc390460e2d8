"""The S3 bucket for inputs and results: its settings and its objects."""
