"""Layers by portable kernels: a row's bits depend on the model, the precision and the row's own history, on every CPU alike."""
