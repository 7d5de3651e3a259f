//! The log in memory: chunks are kept, bounded in bytes, until every reader has committed past them.
