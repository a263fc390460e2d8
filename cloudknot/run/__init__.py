"""One map: its submission, the collection of its results, and its jobs in later sessions."""
