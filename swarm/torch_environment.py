"""What must be settled before torch is loaded. `checkpoint` and `engine` import this first.

Importing it sets environment variables that libraries under torch read once, unless the user has set them.
"""

import os
import platform
import sys

if "torch" not in sys.modules:
    if platform.machine() in ("x86_64", "AMD64"):
        # fp32 linears then give the same bits at any thread count; MKL reads this when it loads
        os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
    # Several nodes often share a machine's cores. A thread that spins at a barrier keeps the one it waits for from running:
    # with two busy processes on two cores, an operation of 15 us took 8 ms
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
