"""A function, its dependencies and its digest: everything that travels into the image. Nothing is built here."""
