"""Moments in Time: three-second clips of actions and events."""
