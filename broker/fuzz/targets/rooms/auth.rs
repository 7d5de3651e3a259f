//! Stands for the room of this name: what the configuration names of it.

/// Nobody reads any here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerFiles;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DenyAction {
    #[default]
    Ignore,
    Disconnect,
}

/// There is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {}
