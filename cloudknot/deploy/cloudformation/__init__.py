"""Templates, and the stacks that CloudFormation makes of them. No resource has a meaning here."""
