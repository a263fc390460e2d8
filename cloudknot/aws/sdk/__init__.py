"""Changes to botocore that save memory and time, and the regions that it knows."""
