"""What a layer computes: attention, recurrence, MLPs and norms, with bits that do not depend on who shares the call."""
