"""How late the looks of many canaries are."""
