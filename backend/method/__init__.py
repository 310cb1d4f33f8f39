"""CoGrad3D's method, one file a section of the paper; docs/method.md states the equations as implemented here."""
