"""The bucket of inputs and results: small reads, large uploads, and the bucket's own settings."""
