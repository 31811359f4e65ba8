"""What keeps a network from learning the saturating integral: docs/integral.md."""
