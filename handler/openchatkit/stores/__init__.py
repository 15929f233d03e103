"""Where conversations live: a SQLite file on one machine, a DynamoDB table on AWS; one contract."""
