"""The server as a process of the system: its arguments, its limits and its end."""
