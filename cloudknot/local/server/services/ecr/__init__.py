"""ECR: repositories, and the images in them. `api` answers calls."""
