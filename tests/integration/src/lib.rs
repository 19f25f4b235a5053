//! End-to-end tests on real processes; see `tests/`.
