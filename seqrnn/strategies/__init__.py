"""How updates are computed: strategies with one interface, of which training knows no more than that."""
