"""The embedded cloud as a session uses it: find its server, start it, connect to it, and measure its disk space."""
