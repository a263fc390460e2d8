"""The same work by cloudknot and by the libraries that people would use instead, side by side in one run."""
