"""The null server, and the calibration of the driver against it."""
