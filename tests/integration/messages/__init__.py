"""Every error and warning of the package, made once and listed: a module of cases for each area."""
