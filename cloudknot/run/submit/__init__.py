"""Inputs and manifest into S3, then one SubmitJob for each round."""
