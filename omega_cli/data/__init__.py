"""Ground truth: readers of multi-view data sets, and the studio that makes its own."""
