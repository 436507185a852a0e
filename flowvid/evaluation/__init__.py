"""Evaluation: scores of every video, baselines, label information and the reports."""
