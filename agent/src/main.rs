//! `novacron-agent`: see the library.
fn main() {}
