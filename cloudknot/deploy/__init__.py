"""Create, change and delete the AWS resources of knots and Pars, by CloudFormation."""
