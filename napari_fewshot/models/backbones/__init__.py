"""What turns an image into a feature pyramid."""
