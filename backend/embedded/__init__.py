"""The built-in world: objects modelled in code, the words for them, and the priors made from their pictures."""
