"""The variables and files of AWS on the user's machine: profile, region, credentials, and errors about them."""
