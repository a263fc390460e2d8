"""CloudFormation templates and stacks. This folder does not know the meaning of any resource in them."""
