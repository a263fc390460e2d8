"""Base images: find them, copy them, and read and check the facts that an environment needs."""
