"""The Docker engine of this machine: it builds and pushes images, and its errors are explained here."""
