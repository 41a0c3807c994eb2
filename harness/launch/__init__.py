"""How an endpoint comes to be: environments installed on demand, engine processes started and surely stopped."""
