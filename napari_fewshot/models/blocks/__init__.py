"""Parts that several methods share, each written once and tested once."""
