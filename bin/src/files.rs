//! The limit of open files: raised to what is allowed, and what of it is left for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files kept back from the connections: Kafka's sockets, the log's segments, listeners, wake-ups, admin.
const KEPT_BACK: u64 = 256;

/// Raises the soft limit to the hard one and returns how many connections there is room for, at most `wanted`.
pub fn raise(wanted: usize) -> usize {
    let before = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        },
    ) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let limit = getrlimit(Resource::Nofile).current;
    let room = room(limit, wanted);
    tracing::info!(
        open_files = limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string()),
        before = before
            .current
            .map_or_else(|| "no limit".to_owned(), |limit| limit.to_string()),
        connections = room,
        "limit of open files"
    );
    if room < wanted {
        tracing::info!(
            "limits.max_connections is {wanted}: for that many raise the limit of open files (ulimit -n, LimitNOFILE=)"
        );
    }
    room
}

/// Connections that a limit of open files has room for. Where it is small, half of it is kept back.
fn room(limit: Option<u64>, wanted: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let room = limit - KEPT_BACK.min(limit / 2);
    usize::try_from(room).unwrap_or(wanted).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept_back_for_all_but_connections() {
        assert_eq!(room(Some(1024), 1_000_000), 768);
        assert_eq!(room(Some(100), 1_000_000), 50);
        assert_eq!(room(Some(1024), 10), 10);
        assert_eq!(room(None, 10), 10);
    }
}
