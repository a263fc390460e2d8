"""The directory of an embedded cloud: the files through which its processes find each other, and its database."""
