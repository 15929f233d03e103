"""What an app left behind in an account: `leftover` says what that is, `sweep` finds and removes it."""
