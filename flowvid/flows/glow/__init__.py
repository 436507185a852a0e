"""Glow, the flow of the paper (Kingma & Dhariwal 2018; paper, section IV)."""
