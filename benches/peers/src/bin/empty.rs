//! An empty program: what a process costs by itself.

fn main() {}
