"""What a QuPath project is to us, and the ways into it."""
