"""Single rows for people: deliveries, digests, events, and why an alert did or did not come."""
