//! The disk is full: nothing is acknowledged that is not safe, the log says so, and all goes on when there is room. On a
//! small ext4 of its own, since tmpfs has no fsync and no preallocation.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::{beside, drained};
use crate::args;
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

    /// Takes what has become free since.
    fn top_up(&self) {
        let filler = self.at.join("filler");
        let mut file = std::fs::File::options().append(true).open(filler).unwrap();
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        let _ = file.sync_all();
    }

    /// Fills it, and takes what the spool gives back when it sees that others need room: what it kept for later.
    fn fill_up(&self) {
        self.fill();
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(500));
            self.top_up();
        }
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

fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<(), String> {
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

/// How often the log says it.
fn lines(forebay: &Forebay, text: &str) -> usize {
    forebay.log().lines().filter(|line| line.contains(text)).count()
}

const UNKEPT: &str = "refused records can't be kept in the quarantine: nothing is lost";
const KEPT_AGAIN: &str = "the quarantine takes refused records again";

/// Devices whose every message is larger than their topic takes.
fn too_large(prefix: &str) -> Load {
    Load {
        prefix: prefix.to_owned(),
        devices: 2,
        messages: 5,
        every: Duration::from_millis(500),
        payload_bytes: 50_000,
        reconnect: true,
        ..Load::default()
    }
}

/// Small messages until `steer` says stop.
fn steady(prefix: &str, steer: &Arc<Steer>) -> Load {
    Load {
        prefix: prefix.to_owned(),
        devices: 10,
        every: Duration::from_millis(100),
        reconnect: true,
        steer: steer.clone(),
        ..Load::default()
    }
}

/// Waits for the first sign of a full disk under the quarantine, then watches it for a while.
fn refused_and_not_kept(forebay: &Forebay, kafka: &Kafka, topic: &str) {
    forebay.wait_unready("quarantine", PATIENCE);
    let (kept, held) = (forebay.metric("forebay_quarantine_total", ""), kafka.held(topic));
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(forebay.metric("forebay_quarantine_total", ""), kept);
    assert!(kafka.held(topic) > held + 100, "what Kafka takes flows on");
}

#[test]
fn a_full_disk_under_the_quarantine_holds_up_nobody_and_loses_no_refused_record() {
    let Some(disk) = Disk::mount(160) else { return };
    let kafka = Kafka::shared();
    kafka.create_topic("narrow-full", 3, &[("max.message.bytes", "3000")]);
    kafka.create_topic("dead-full", 1, &[]);
    let rest = "[kafka]\ndead_letter_topic = \"dead-full\"\n".to_owned() + &route("narrow-full");
    let text = config(&kafka.bootstrap(), &rest).replace("\"8MiB\"", "\"4MiB\"");
    let mut forebay = Forebay::start(&text.replace("{data}", &disk.at.display().to_string()));
    forebay.wait_ready(PATIENCE * 4);
    let (steer, port) = (Arc::new(Steer::default()), forebay.mqtt);
    let most = Duration::from_secs(150);
    let (mut outcomes, refused) = beside(&[steady("s", &steer)], port, most, || {
        std::thread::sleep(Duration::from_secs(1));
        disk.fill();
        let (first, ()) = beside(&[too_large("big")], port, most, || {
            refused_and_not_kept(&forebay, kafka, "narrow-full");
            assert_eq!(lines(&forebay, UNKEPT), 1, "{}", forebay.log());
            disk.free();
            wait_for("they are kept", PATIENCE, || {
                (forebay.metric("forebay_quarantine_total", "") == 10.0).then_some(())
            });
        });
        assert_eq!(lines(&forebay, KEPT_AGAIN), 1, "{}", forebay.log());
        forebay.wait_ready(PATIENCE);
        // Once more, and killed in the middle.
        disk.fill_up();
        let (second, ()) = beside(&[too_large("huge")], port, most, || {
            refused_and_not_kept(&forebay, kafka, "narrow-full");
            forebay.kill();
            disk.free();
            forebay.start_again();
        });
        std::thread::sleep(Duration::from_secs(2));
        steer.stop();
        [first, second].concat()
    });
    let dead = kafka.read_at_least("dead-full", 20, Duration::from_secs(60));
    drained(&forebay, kafka, "narrow-full", Duration::from_secs(90));
    let audit = Audit::new(&kafka.read("narrow-full"), &outcomes);
    eprintln!(
        "disk full under the quarantine: {audit:?}; {} dead letters",
        dead.len()
    );
    audit.assert_clean(&outcomes);
    outcomes.extend(refused.iter().cloned());
    let unfinished = outcomes.iter().find(|o| o.error.is_some());
    assert!(unfinished.is_none(), "{unfinished:?}");
    for outcome in &refused {
        for number in 0..5 {
            let text = format!("{}:{number}:", outcome.device);
            let there = dead.iter().any(|record| record.text().starts_with(&text));
            assert!(there, "{text} is no dead letter");
        }
    }
}

/// Has the next saves of the cursor fail: the file loses its blocks, and others take them. On a disk that writes each
/// change to a new place (btrfs, ZFS) a full one is enough.
fn no_room_for_the_cursor(disk: &Disk, forebay: &Forebay) {
    let errors = || forebay.metric("forebay_sink_cursor_save_errors_total", "");
    let before = errors();
    wait_for("saves fail", PATIENCE * 2, || {
        let cursor = disk.at.join("spool/cursor-kafka");
        run(
            "fallocate",
            &args!["-p", "-o", 0, "-l", 131_072, cursor.display()],
        )
        .unwrap();
        disk.top_up();
        std::thread::sleep(Duration::from_millis(1200));
        (errors() > before + 2.0).then_some(())
    });
}

#[test]
fn a_cursor_that_finds_no_room_stops_no_delivery_and_is_saved_when_there_is_some() {
    const UNSAVED: &str = "the cursor of the way to Kafka can't be saved";
    const SAVED: &str = "the cursor of the way to Kafka is saved again";
    let Some(disk) = Disk::mount(160) else { return };
    let kafka = Kafka::shared();
    kafka.create_topic("cursor-full", 3, &[]);
    let mut forebay = {
        let text = config(&kafka.bootstrap(), &route("cursor-full")).replace("\"8MiB\"", "\"4MiB\"");
        Forebay::start(&text.replace("{data}", &disk.at.display().to_string()))
    };
    forebay.wait_ready(PATIENCE * 4);
    let steer = Arc::new(Steer::default());
    let load = steady("c", &steer);
    let (outcomes, ()) = beside(&[load], forebay.mqtt, Duration::from_secs(150), || {
        std::thread::sleep(Duration::from_secs(1));
        disk.fill();
        no_room_for_the_cursor(&disk, &forebay);
        let held = kafka.held("cursor-full");
        std::thread::sleep(Duration::from_secs(4));
        assert!(kafka.held("cursor-full") > held + 200, "delivery goes on");
        assert_eq!(lines(&forebay, UNSAVED), 1, "{}", forebay.log());
        assert_eq!(lines(&forebay, SAVED), 0);
        disk.free();
        wait_for("it is saved again", PATIENCE, || {
            (lines(&forebay, SAVED) == 1).then_some(())
        });
        let errors = forebay.metric("forebay_sink_cursor_save_errors_total", "");
        disk.fill();
        no_room_for_the_cursor(&disk, &forebay);
        assert!(forebay.metric("forebay_sink_cursor_save_errors_total", "") > errors);
        forebay.kill();
        disk.free();
        forebay.start_again();
        std::thread::sleep(Duration::from_secs(2));
        steer.stop();
    });
    drained(&forebay, kafka, "cursor-full", Duration::from_secs(90));
    let audit = Audit::new(&kafka.read("cursor-full"), &outcomes);
    eprintln!("no room for the cursor: {audit:?}");
    audit.assert_clean(&outcomes);
}
