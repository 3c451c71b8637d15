"""The import: reads the user's statements, holdings, prices and profile from files, and stores what they hold."""
