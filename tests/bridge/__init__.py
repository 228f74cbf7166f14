"""Hosted servers through the whole gateway: one conversation, many clients, nobody hears another."""
