"""Hydra configuration: one yaml a command, groups for what can be exchanged."""
