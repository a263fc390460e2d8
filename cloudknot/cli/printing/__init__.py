"""The commands that print files to use elsewhere: IAM policies and CloudFormation templates."""
