"""What can happen: gateway, guardian, supervisor and routers, specialists, gates."""
