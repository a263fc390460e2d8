"""The embedded cloud's own process: HTTP, signatures, and the routes to every service."""
