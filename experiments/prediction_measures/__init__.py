"""What papers on video prediction measure: the best of many samples, and distances of features."""
