//! TLS with clients that others wrote and with our own: whom they trust, whom the broker lets in, and certificates that are
//! changed while it runs.

use std::time::Duration;

use crate::args;
use crate::support::certificates::Certificates;
use crate::support::forebay::{Forebay, PLAIN};
use crate::support::process::{self, Finished};
use crate::support::wait_for;

const WITHIN: Duration = Duration::from_secs(60);

fn start(section: &str) -> Forebay {
    Forebay::start(&PLAIN.replace("[auth]", &format!("{section}[auth]")))
}

/// One publish by our own client, or by Mosquitto's.
fn publish(own: bool, port: u16, further: &[&str]) -> Finished {
    let mut arguments = args!["-h", "127.0.0.1", "-p", port, "-t", "a", "-q", "1", "-m", "x"].to_vec();
    arguments.extend(further.iter().map(ToString::to_string));
    if !own {
        return process::run("mosquitto_pub", &arguments, "", WITHIN);
    }
    arguments.insert(0, "pub".to_owned());
    process::run(env!("CARGO_BIN_EXE_forebay"), &arguments, "", WITHIN)
}

/// Mosquitto's client ends with 8 or with 1, as the alert comes before or after its loop begins.
fn assert_is_tls_error(own: bool, done: &Finished) {
    let statuses = if own { &[Some(8)][..] } else { &[Some(8), Some(1)] };
    assert!(
        statuses.contains(&done.status) && done.stderr.contains("A TLS error occurred"),
        "own {own}: {:?} {}",
        done.status,
        done.stderr
    );
}

#[test]
fn who_must_show_a_certificate_does_or_stays_out() {
    let files = Certificates::new();
    let forebay = start(&files.section_for_clients());
    let ca = files.path("ca.pem");
    let [client, client_key] = ["client.pem", "client.key"].map(|name| files.path(name));
    let [revoked, revoked_key] = ["revoked.pem", "revoked.key"].map(|name| files.path(name));
    for own in [false, true] {
        for version in ["mqttv31", "mqttv311", "mqttv5"] {
            let good = [
                "-V",
                version,
                "--cafile",
                &ca,
                "--cert",
                &client,
                "--key",
                &client_key,
            ];
            let done = publish(own, forebay.mqtt, &good);
            assert_eq!(done.status, Some(0), "own {own} {version}: {}", done.stderr);
        }
        for (name, further) in [
            ("none", &["--cafile", &ca][..]),
            (
                "revoked",
                &["--cafile", &ca, "--cert", &revoked, "--key", &revoked_key],
            ),
        ] {
            let done = publish(own, forebay.mqtt, further);
            assert_ne!(done.status, Some(0), "own {own}, {name}");
        }
    }
    let log = forebay.log();
    assert!(log.contains("no TLS handshake"), "{log}");
    let (_, metrics) = forebay.get("/metrics").unwrap();
    let count = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    let failed = "forebay_tls_handshakes_failed_total{reason=\"client_certificate\"}";
    assert_eq!(count(failed), Some(4.0), "{metrics}");
    assert_eq!(count("forebay_tls_handshakes_total"), Some(6.0), "{metrics}");
    assert!(
        count("forebay_tls_certificate_not_after_seconds").is_some(),
        "{metrics}"
    );
}

#[test]
fn clients_trust_whom_they_were_told_to() {
    let files = Certificates::new();
    let others = Certificates::new();
    let forebay = start(&files.section(""));
    let [ca, server, other] = [
        files.path("ca.pem"),
        files.path("server.pem"),
        others.path("ca.pem"),
    ];
    for own in [false, true] {
        let done = publish(own, forebay.mqtt, &["--cafile", &ca]);
        assert_eq!(done.status, Some(0), "own {own}: {}", done.stderr);
        let stranger = publish(own, forebay.mqtt, &["--cafile", &other]);
        assert_is_tls_error(own, &stranger);
        // In the clear: the socket is closed.
        let plain = publish(own, forebay.mqtt, &[]);
        assert_ne!(plain.status, Some(0), "own {own}");
    }
    // The broker's own certificate may be trusted itself; 1.3 alone may be asked for.
    for further in [
        &["--cafile", &server][..],
        &["--cafile", &ca, "--tls-version", "tlsv1.3"],
    ] {
        let done = publish(true, forebay.mqtt, further);
        assert_eq!(done.status, Some(0), "{further:?}: {}", done.stderr);
    }
    let log = forebay.log();
    assert!(log.contains("no TLS handshake"), "{log}");
}

#[test]
fn a_certificate_for_another_host_is_taken_by_who_does_not_ask() {
    let files = Certificates::new();
    files.leaf_for(&["elsewhere.example"], "server", 1);
    let forebay = start(&files.section(""));
    let ca = files.path("ca.pem");
    for own in [false, true] {
        let asked = publish(own, forebay.mqtt, &["--cafile", &ca]);
        assert_is_tls_error(own, &asked);
        let unasked = publish(own, forebay.mqtt, &["--cafile", &ca, "--insecure"]);
        assert_eq!(unasked.status, Some(0), "own {own}: {}", unasked.stderr);
    }
}

#[test]
fn a_certificate_is_changed_while_the_broker_runs_and_a_faulty_one_is_not_taken() {
    let files = Certificates::new();
    let forebay = start(&files.section(""));
    let ca = files.path("ca.pem");
    let serial = || {
        let port = format!("127.0.0.1:{}", forebay.mqtt);
        let command =
            format!("openssl s_client -connect {port} 2>/dev/null </dev/null | openssl x509 -noout -serial");
        process::run("sh", &args!["-c", command], "", WITHIN).stdout
    };
    assert_eq!(serial(), "serial=01\n");
    files.leaf("server", 2);
    forebay.hang_up();
    wait_for("the new certificate", WITHIN, || {
        (serial() == "serial=02\n").then_some(())
    });
    files.write("server.key", "no key");
    forebay.hang_up();
    wait_for("a word on the fault", WITHIN, || {
        forebay.log().contains("has no private key").then_some(())
    });
    assert!(
        forebay
            .log()
            .contains("goes on with the certificates that it has")
    );
    assert_eq!(serial(), "serial=02\n");
    let done = publish(true, forebay.mqtt, &["--cafile", &ca]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
}
