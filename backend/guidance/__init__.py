"""The frozen 2D prior, and what the distillation rules make of its answer."""
