"""Telling the owner: notices of a changed status, test messages, an outside monitor's pings."""
