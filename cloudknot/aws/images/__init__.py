"""Images of jobs: the description of an image, the contract of an image store, and ECR, the registry of AWS."""
