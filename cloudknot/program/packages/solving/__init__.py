"""How requirements become a lock: the tools, the choice of versions, the stored locks and the errors."""
