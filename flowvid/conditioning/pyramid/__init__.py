"""The context encoder of the paper: label images, context processor, context pyramid."""
