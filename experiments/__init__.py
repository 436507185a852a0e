"""One module per table or figure of the paper, the benchmarks and the report."""
