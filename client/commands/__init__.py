"""One module a command of `ock`; `client.cli` imports a module when its command is called."""
