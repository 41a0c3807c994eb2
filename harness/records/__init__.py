"""What was measured, as stored: records, manifests, metrics of one run, other tools' formats."""
