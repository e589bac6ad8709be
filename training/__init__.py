"""Recipes, and the experiments that compare them."""
