//! A test on virtual machines; see `vm/` and `run`.
