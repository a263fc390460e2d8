"""A catalogue of every error and warning of the package, with a module of cases for each area."""
