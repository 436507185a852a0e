"""What a run is: its configuration, how it is saved, and its command-line flags."""
