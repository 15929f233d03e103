"""What `ock doctor` looks at: one module for this machine, one for the AWS account."""
