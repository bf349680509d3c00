"""Simulated raters who vote through the page on real images, and what is learned from them."""
