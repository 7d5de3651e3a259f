//! What an operator takes from deploy/ and configs/ is read, is consistent, and starts the binary.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::args;
use crate::support::forebay::{Forebay, Place, run};
use crate::support::kafka::Kafka;
use crate::support::{root, tools};

const WITHIN: Duration = Duration::from_secs(60);

/// Starts the binary with a configuration as it stands, its addresses and directory moved by the environment.
fn start_as_it_stands(file: &str, further: &[String]) -> Forebay {
    for _ in 0..3 {
        let place = Place::new();
        let mut command = args![
            "env",
            format!("FOREBAY__LISTENER__0__BIND=127.0.0.1:{}", place.mqtt),
            format!("FOREBAY__ADMIN__BIND=127.0.0.1:{}", place.admin),
            format!("FOREBAY__NODE__DATA_DIR={}", place.dir.path().display()),
        ]
        .to_vec();
        command.extend_from_slice(further);
        command.extend(args![env!("CARGO_BIN_EXE_forebay"), "run", "-c", file]);
        if let Some(forebay) = place.start(&command) {
            return forebay;
        }
    }
    panic!("no free port in three tries");
}

#[test]
fn each_configuration_starts() {
    let kafka = Kafka::shared();
    kafka.create_topic("telemetry", 3, &[]);
    let mut seen = 0;
    for entry in fs::read_dir(root().join("configs")).unwrap() {
        let file = entry.unwrap().path().display().to_string();
        let checked = run(&args!["check", "-c", file]);
        assert_eq!(
            checked.status,
            Some(0),
            "{file}: {}{}",
            checked.stdout,
            checked.stderr
        );
        let mut further = Vec::new();
        if !fs::read_to_string(&file).unwrap().contains("\n#[kafka]") {
            further = args![format!(
                "FOREBAY__KAFKA__PROPERTIES__BOOTSTRAP_SERVERS={}",
                kafka.bootstrap()
            )]
            .to_vec();
        }
        let forebay = start_as_it_stands(&file, &further);
        forebay.wait_ready(WITHIN);
        let done = tools::mosquitto_pub(forebay.mqtt, &["-t", "devices/d1/t", "-m", "x", "-q", "1"]);
        assert_eq!(done.status, Some(0), "{file}: {}", done.stderr);
        seen += 1;
    }
    assert!(seen >= 2, "reference.toml and minimal.toml at least");
}

/// The documents of the manifest.
fn manifest() -> Vec<Value> {
    let file = root().join("deploy/kubernetes/forebay.yaml");
    let done = tools::python("manifest.py", &args![file.display()]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    serde_json::from_str(&done.stdout).unwrap()
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents
        .iter()
        .filter(|document| document["kind"] == kind)
        .collect()
}

#[test]
fn the_manifest_starts_the_binary_and_its_probes_answer() {
    let kafka = Kafka::shared();
    kafka.create_topic("by-manifest", 3, &[]);
    let documents = manifest();
    let pod = &of_kind(&documents, "StatefulSet")[0]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let text = of_kind(&documents, "ConfigMap")[0]["data"]["forebay.toml"]
        .as_str()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.toml").display().to_string();
    fs::write(&file, text).unwrap();
    let checked = run(&args!["check", "-c", file]);
    assert_eq!(checked.status, Some(0), "{}{}", checked.stdout, checked.stderr);

    // The manifest's arguments, its mounted file being the one written here.
    let given: Vec<&str> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    assert_eq!(given, ["run", "-c", "/etc/forebay/forebay.toml"]);
    let id = &container["env"][0];
    assert_eq!(id["name"], "FOREBAY__NODE__ID");
    let forebay = start_as_it_stands(
        &file,
        &args![
            "FOREBAY__NODE__ID=forebay-0",
            "FOREBAY__ROUTE__0__TOPIC=by-manifest",
            format!(
                "FOREBAY__KAFKA__PROPERTIES__BOOTSTRAP_SERVERS={}",
                kafka.bootstrap()
            )
        ],
    );
    forebay.wait_ready(WITHIN);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        assert_eq!(
            forebay.get(path).map(|(status, _)| status),
            Some(200),
            "{probe} {path}"
        );
    }
    let done = tools::mosquitto_pub(forebay.mqtt, &["-t", "devices/d1/t", "-m", "x", "-q", "1"]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    let position = kafka.read_at_least("by-manifest", 1, WITHIN)[0]
        .header("forebay.position")
        .unwrap();
    assert!(
        position.starts_with("forebay-0/"),
        "the pod's name is the node: {position}"
    );
    let annotations = &of_kind(&documents, "StatefulSet")[0]["spec"]["template"]["metadata"]["annotations"];
    let (status, _) = forebay
        .get(annotations["prometheus.io/path"].as_str().unwrap())
        .unwrap();
    assert_eq!(status, 200);
}

#[test]
fn the_manifest_fits_together() {
    let documents = manifest();
    let set = &of_kind(&documents, "StatefulSet")[0]["spec"];
    let template = &set["template"];
    let container = &template["spec"]["containers"][0];
    let labels = template["metadata"]["labels"].as_object().unwrap();
    let ports = container["ports"].as_array().unwrap();
    let services = of_kind(&documents, "Service");
    assert!(
        services
            .iter()
            .any(|service| service["metadata"]["name"] == set["serviceName"])
    );
    for service in services {
        for (key, value) in service["spec"]["selector"].as_object().unwrap() {
            assert_eq!(labels.get(key), Some(value), "the Service selects the pods");
        }
        for port in service["spec"]["ports"].as_array().unwrap() {
            assert!(
                ports.iter().any(|own| own["name"] == port["targetPort"]),
                "{port}"
            );
        }
    }
    let scraped = template["metadata"]["annotations"]["prometheus.io/port"]
        .as_str()
        .unwrap();
    let scraped: u64 = scraped.parse().unwrap();
    assert!(ports.iter().any(|port| port["containerPort"] == scraped));
    let claimed = &set["volumeClaimTemplates"][0]["metadata"]["name"];
    let mounts = container["volumeMounts"].as_array().unwrap();
    let data = mounts
        .iter()
        .find(|mount| &mount["name"] == claimed)
        .expect("each pod's volume is mounted");
    let text = of_kind(&documents, "ConfigMap")[0]["data"]["forebay.toml"]
        .as_str()
        .unwrap();
    assert!(
        text.contains(&format!("data_dir = {}", data["mountPath"])),
        "and is the data directory"
    );
    assert_eq!(template["spec"]["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
}

#[test]
fn the_dockerfile_has_two_stages_no_root_and_copies_what_is_there() {
    let text = fs::read_to_string(root().join("deploy/Dockerfile"))
        .unwrap()
        .replace("\\\n", " ");
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let all = |name: &str| -> Vec<&str> {
        lines
            .iter()
            .filter(|(word, _)| *word == name)
            .map(|(_, rest)| rest.trim())
            .collect()
    };
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap()
        .trim_matches('"');
    assert_eq!(all("FROM").len(), 2);
    assert!(
        all("FROM")[0].starts_with(&format!("rust:{version}-")),
        "the compiler that the workspace names"
    );
    assert_eq!(all("USER"), ["10001:10001"]);
    assert_eq!(
        lines
            .iter()
            .rposition(|(word, _)| *word == "RUN")
            .map(|at| at < position(&lines, "USER")),
        Some(true)
    );
    let from_build = all("COPY")
        .into_iter()
        .filter_map(|rest| rest.strip_prefix("--from=build /src/"));
    for path in from_build
        .map(|rest| rest.split(' ').next().unwrap())
        .filter(|path| !path.starts_with("target/"))
    {
        assert!(root().join(path).exists(), "{path}");
    }
    let command: Vec<String> = serde_json::from_str(all("CMD")[0]).unwrap();
    assert_eq!(command[..2], ["run", "-c"]);
    let config = command[2].strip_prefix("/etc/forebay/").unwrap();
    assert!(root().join("configs").join(config).exists());
}

fn position(lines: &[(&str, &str)], name: &str) -> usize {
    lines.iter().position(|(word, _)| *word == name).unwrap()
}

#[test]
fn the_unit_runs_the_binary_as_nobody_and_does_not_retry_a_bad_configuration() {
    let text = fs::read_to_string(root().join("deploy/systemd/forebay.service")).unwrap();
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else {
            let (key, value) = line
                .split_once('=')
                .unwrap_or_else(|| panic!("not a setting: {line}"));
            keys.push((section.clone(), key.to_owned(), value.to_owned()));
        }
    }
    let get = |section: &str, key: &str| {
        let found = keys.iter().find(|(s, k, _)| s == section && k == key);
        found
            .map(|(_, _, value)| value.as_str())
            .unwrap_or_else(|| panic!("no {key} in [{section}]"))
    };
    let start: Vec<&str> = get("Service", "ExecStart").split(' ').collect();
    assert_eq!(start[1..], ["run", "-c", "/etc/forebay/forebay.toml"]);
    assert!(get("Service", "ExecStartPre").contains(" check -c /etc/forebay/forebay.toml"));
    assert_eq!(get("Service", "DynamicUser"), "yes");
    assert_eq!(get("Service", "ProtectSystem"), "strict");
    assert_eq!(get("Service", "RestartPreventExitStatus"), "64");
    assert_eq!(get("Install", "WantedBy"), "multi-user.target");
    let bad = run(&args!["check", "-c", "/nonexistent/forebay.toml"]);
    assert_eq!(bad.status, Some(64), "the exit code that the unit names");
}
