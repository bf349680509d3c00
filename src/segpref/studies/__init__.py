"""Audits, studies by recipe, and their tables, figures and reports."""
