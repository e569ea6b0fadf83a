"""One training on several devices and in several processes."""
