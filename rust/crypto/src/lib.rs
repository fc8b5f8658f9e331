//! Primitives and secrets.
