"""The built-in instruments, a file for each: what it measures, its result, its symptoms, and its picture."""
