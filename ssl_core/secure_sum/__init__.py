"""Update -> masked integers -> sum, both roles: pure state machines; storage and randomness are arguments."""
