"""Looking up deliveries, digests and events, and why an alert was or was not sent."""
