"""Evidence: audits, comparisons by recipe, tables, pictures and reports."""
