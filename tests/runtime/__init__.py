"""Reload, start and end of a running gateway, in this process and as a program."""
