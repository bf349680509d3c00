"""The page on which people compare masks, and its server."""
