"""The AWS resources of a knot and of a Pars, made and changed by CloudFormation."""
