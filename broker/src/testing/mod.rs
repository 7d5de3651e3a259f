//! What tests of several rooms share.

pub mod faulty_fs;
pub mod pair;
