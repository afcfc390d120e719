//! Checks of the design itself: who imports whom, and whether the documents tell the truth. See `tests/`.
