"""Scores of models on prepared cases, and masks of new images in their own geometry."""
