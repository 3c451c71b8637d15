"""What a question asks for: its days, its parts, and the categories or merchants that it names."""
