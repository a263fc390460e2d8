"""The choices that a user can make, their defaults, and the checks that refuse others. No remote calls here."""
