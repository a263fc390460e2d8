"""The images of jobs: the description of one, the place that keeps it, and ECR, which keeps them on AWS."""
