"""Training the weights that come with the package, and anybody's own: pictures, episodes, recipes, and the loop."""
