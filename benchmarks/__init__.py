"""Speed and scale, side by side with what one would use otherwise. Not an installed package."""
