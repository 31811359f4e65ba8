"""Compiled code for the CPU: recurrences, and whole updates; every one has a plain twin that tests compare it to."""
