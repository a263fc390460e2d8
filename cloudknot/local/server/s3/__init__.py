"""The S3 of the embedded cloud: layers in front of moto's. Bucket policies, and quick answers to plain requests."""
