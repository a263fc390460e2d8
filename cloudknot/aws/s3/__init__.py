"""The bucket of inputs and results, as the client sees it: its settings, and its objects through the door."""
