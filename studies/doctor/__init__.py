"""The doctor on planted failures: ``python -m studies.doctor`` plants them, and docs/doctor.md has the figures."""
