//! `migrate` and `run --mosquitto-conf` from outside: what goes where, and that a broker starts from it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::Dir;

const SAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/mosquitto/mosquitto.conf"
);

#[test]
fn the_configuration_goes_to_the_output_and_what_to_know_to_standard_error() {
    let dir = Dir::new();
    let shown = dir.run(&["migrate", SAMPLE]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(
        shown.out.starts_with("# Made by `forebay migrate` from "),
        "{}",
        shown.out
    );
    assert!(
        shown
            .err
            .contains("mosquitto.conf:8: pid_file is not carried over"),
        "{}",
        shown.err
    );
    assert!(
        shown
            .err
            .trim_end()
            .ends_with("things to know, the rest is carried over"),
        "{}",
        shown.err
    );

    let written = dir.run(&["migrate", SAMPLE, "-o", "forebay.toml"]);
    assert_eq!((written.code, written.out.as_str()), (0, ""));
    assert_eq!(
        std::fs::read_to_string(dir.0.path().join("forebay.toml")).unwrap(),
        shown.out
    );
    // It names the files of users and rules as they are: where they are missing, the check says so.
    let checked = dir.run(&["check", "-c", "forebay.toml"]);
    assert_eq!(checked.code, 64);
    assert!(
        checked.err.contains("/etc/mosquitto/passwd: can't be read"),
        "{}",
        checked.err
    );
    let mut here = shown.out.clone();
    for name in ["passwd", "acl"] {
        std::fs::write(dir.0.path().join(name), "").unwrap();
        here = here.replace(&format!("/etc/mosquitto/{name}"), name);
    }
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [cert, key] = [made.cert.pem(), made.signing_key.serialize_pem()];
    for (name, text) in [("ca.crt", &cert), ("server.crt", &cert), ("server.key", &key)] {
        std::fs::write(dir.0.path().join(name), text).unwrap();
        here = here.replace(&format!("/etc/mosquitto/certs/{name}"), name);
    }
    std::fs::write(dir.0.path().join("here.toml"), here).unwrap();
    let checked = dir.run(&["check", "-c", "here.toml"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(
        checked.out.contains("data directory /srv/mosquitto/"),
        "{}",
        checked.out
    );

    let again = dir.run(&["migrate", SAMPLE, "-o", "forebay.toml"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("forebay.toml: File exists"), "{}", again.err);
    let missing = dir.run(&["migrate", "no.conf"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("no.conf: No such file"), "{}", missing.err);
}

#[test]
fn check_and_run_take_a_mosquitto_conf_with_the_way_into_kafka_beside_it() {
    let dir = Dir::new();
    let data = dir.0.path().join("data");
    let conf = format!(
        "allow_anonymous true\nport 0\nbind_address 127.0.0.1\npersistence_location {}\n",
        data.display()
    );
    std::fs::write(dir.0.path().join("mosquitto.conf"), conf).unwrap();
    dir.file("[kafka.properties]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\n[[route]]\nfilter = \"d/{device_id}\"\ntopic = \"t\"\n");
    let checked = dir.run(&[
        "check",
        "--mosquitto-conf",
        "mosquitto.conf",
        "-c",
        "forebay.toml",
    ]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(
        checked.out.contains("route d/{device_id} -> t"),
        "{}",
        checked.out
    );
    dir.file(
        "[kafka.properties]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\n[[route]]\nfilter = 3\ntopic = \"t\"\n",
    );
    let refused = dir.run(&[
        "check",
        "--mosquitto-conf",
        "mosquitto.conf",
        "-c",
        "forebay.toml",
    ]);
    assert_eq!(refused.code, 64);
    assert!(refused.err.contains("forebay.toml:4: "), "{}", refused.err);

    let mut child = dir
        .command(&["run", "--mosquitto-conf", "mosquitto.conf"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let line = lines.find(|line| line.contains("mqtt   ")).unwrap();
    let address = line
        .trim_start()
        .strip_prefix("mqtt   ")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    let (host, port) = address.rsplit_once(':').unwrap();
    let done = dir.run(&["pub", "-h", host, "-p", port, "-t", "a", "-m", "b", "-q", "1"]);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}
