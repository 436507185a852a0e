"""Flax linen modules: the networks that parameterise the flow."""
