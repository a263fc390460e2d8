"""AWS Batch as the embedded cloud has it: requests in, states and events out."""
