"""The kernels of portable-1 for GPUs, written in Triton. docs/NUMERICS.md says what each computes; plain C is the definition.

Triton comes with torch's builds for CUDA. Only this package imports it, and only swarm/engine/portable/device/ imports this
package: where a device other than a CPU computes.
"""
