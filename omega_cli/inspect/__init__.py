"""What an avatar folder holds: fresh, stale, edited by hand or missing, and why. Reads only."""
