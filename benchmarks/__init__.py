"""Side-by-side ratios: `make bench`."""
