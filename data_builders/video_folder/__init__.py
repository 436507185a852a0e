"""A folder or zip file of your own clips or images as a dataset."""
