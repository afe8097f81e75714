"""Message transport: HTTP and SMTP with deadlines, and composing email."""
