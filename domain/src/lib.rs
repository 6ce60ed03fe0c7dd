//! Business rules of the arena, their ports, and the workers that join them.

pub mod market;
pub mod store;
