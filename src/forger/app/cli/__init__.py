"""The command line: from what was typed to one command, its messages and exit codes."""
