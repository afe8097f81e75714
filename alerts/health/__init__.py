"""Is the product healthy: counts, queues and runs, and the verdict drawn from them."""
