"""The check of a command and its config before torch is imported. Builds and trains nothing."""
