"""The IAM policies that people and jobs need, and the explanation of a denied call."""
