"""What stock nnU-Net v2 makes of our models, and we of its."""
