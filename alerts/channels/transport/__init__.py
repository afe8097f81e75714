"""How messages travel: HTTP and SMTP with deadlines, and the mail that goes over them."""
