//! The disk is full: nothing is acknowledged that is not safe, the log says so, and all goes on when there is room. On a
//! small ext4 of its own, since tmpfs has no fsync and no preallocation.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::{beside, drained};
use crate::support::audit::Audit;
use crate::support::device::{Load, Steer};
use crate::support::forebay::{Forebay, config, route};
use crate::support::kafka::Kafka;
use crate::support::wait_for;
use crate::support::wire::Plain;

const TOPIC: &str = "full";
const PATIENCE: Duration = Duration::from_secs(20);

/// A small file system in a file, mounted while this value lives.
struct Disk {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    /// `None`, with a word why, where this machine or user can't mount one.
    fn mount(mib: u64) -> Option<Self> {
        let dir = tempfile::Builder::new()
            .prefix("forebay-disk-")
            .tempdir()
            .unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        std::fs::create_dir(&at).unwrap();
        let paths = [&image, &at].map(|path| path.display().to_string());
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &paths[0]])
            .and_then(|()| run("mount", &["-o", "loop", &paths[0], &paths[1]]))
            .map_err(|why| eprintln!("SKIPPED, a small disk can't be mounted here: {why}"))
            .ok()?;
        Some(Self { at, _dir: dir })
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.at.join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        let _ = file.sync_all();
    }

    /// Gives it back.
    fn free(&self) {
        std::fs::remove_file(self.at.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", &self.at.display().to_string()]);
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match Command::new(program).args(args).env("PATH", path).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// A broker whose files are on `disk`, with the smallest segments, and more allowed than there is.
fn start(disk: &Path, bootstrap: &str) -> Forebay {
    let text = config(bootstrap, &route(TOPIC)).replace("\"8MiB\"", "\"4MiB\"");
    Forebay::start(&text.replace("{data}", &disk.display().to_string()))
}

#[test]
fn a_full_disk_holds_publishers_and_loses_nothing() {
    let Some(disk) = Disk::mount(160) else { return };
    let mut kafka = Kafka::prepare();
    let mut forebay = start(&disk.at, &kafka.bootstrap());
    // A kept session, so that the store has something to write too.
    let mut subscriber = Plain::connect(forebay.mqtt, "subscriber", false, PATIENCE);
    subscriber.subscribe("devices/+/telemetry", 1);
    subscriber.end();
    let steer = Arc::new(Steer::default());
    let load = Load {
        prefix: "f".to_owned(),
        devices: 50,
        every: Duration::from_millis(20),
        payload_bytes: 2000,
        reconnect: true,
        steer: steer.clone(),
        ..Load::default()
    };
    let (outcomes, log) = beside(&[load], forebay.mqtt, Duration::from_secs(180), || {
        std::thread::sleep(Duration::from_secs(2));
        disk.fill();
        // What was allocated ahead is used up, then nothing is acknowledged any more.
        let acknowledged = |forebay: &Forebay| forebay.metric("forebay_ack_seconds_count", "");
        wait_for("acknowledgements stop", Duration::from_secs(40), || {
            let before = acknowledged(&forebay);
            std::thread::sleep(Duration::from_secs(2));
            (acknowledged(&forebay) == before).then_some(())
        });
        let log = forebay.log();
        // Neither does it lose anything when it is killed now: it starts on a full disk, or says why not.
        forebay.kill();
        disk.free();
        forebay.start_again();
        disk.fill();
        std::thread::sleep(Duration::from_secs(3));
        assert!(forebay.runs(), "a full disk is waited for");
        disk.free();
        kafka.up();
        kafka.create_topic(TOPIC, 3, &[]);
        std::thread::sleep(Duration::from_secs(5));
        steer.stop();
        log
    });
    let clear = log.lines().any(|line| {
        let line = line.to_lowercase();
        line.contains("full") || line.contains("no space") || line.contains("no room")
    });
    assert!(clear, "the log says that the disk is full:\n{log}");
    drained(&forebay, &kafka, TOPIC, Duration::from_secs(90));
    let audit = Audit::new(&kafka.read(TOPIC), &outcomes);
    eprintln!("disk full: {audit:?}");
    audit.assert_clean(&outcomes);
}
