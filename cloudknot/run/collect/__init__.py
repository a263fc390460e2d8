"""Results from S3 into futures, and an error for each element without a result."""
