"""The numbers that the paper reports, for comparison: Table I."""

# Cross entropy in bits per dimension (the paper's metric) on 1% of Moments in Time.
TABLE_1 = {
    "init": {"head": 6.4241, "tail": 6.4242},
    "prev_frame": {"head": 1.0947, "tail": 1.7243},
    "state": {"head": 1.1217, "tail": 1.6587},
    "state_label": {"head": 1.1255, "tail": 1.7193},
}
