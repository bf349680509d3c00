"""A study of diffusion models of ambiguous segmentations (TDG-DiffDPO, Sec. 5 and Appendix A)."""
