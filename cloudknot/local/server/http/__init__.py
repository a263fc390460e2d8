"""HTTP for the embedded cloud: waitress, with strict heads, signatures before bodies, and bounded connections."""
