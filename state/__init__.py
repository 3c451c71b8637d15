"""What a session is: typed state, money, budget, decision, report, events, errors. Pure values and rules."""
