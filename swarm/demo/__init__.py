"""The demo model that comes with the package, and the program that trains it."""
