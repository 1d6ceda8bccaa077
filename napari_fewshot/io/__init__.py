"""Files in and out, and the sample data."""
