//! Second-factor methods: how each is asked and checked. A file each.

pub mod code;
