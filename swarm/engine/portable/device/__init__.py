"""Programs on a device other than a CPU: the same operations, by swarm/kernels/triton/.

Imported only where such a device computes.
"""
