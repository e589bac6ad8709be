"""Labels from elsewhere: what other tools and data sets say of the images of a project."""
