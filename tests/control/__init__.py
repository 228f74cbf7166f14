"""The control plane: golden cases in `cases/`, one file each, and tests of its parts."""
