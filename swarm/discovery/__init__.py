"""The directory: who serves what, in a Kademlia DHT of signed, expiring records. Floors above need `Directory` only."""

from swarm.discovery.directory import Directory

__all__ = ["Directory"]
