"""Settings that must stand before torch and numba load."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
