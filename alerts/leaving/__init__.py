"""How users leave: the signed links of messages, unsubscribing, and erasing a user's data."""
