"""What is printed in a file, read: amounts, dates, column headers, and which way an amount goes."""
