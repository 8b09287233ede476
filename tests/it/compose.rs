//! The files for containers, as far as they can be checked without an engine: they parse, publish to
//! this machine only, sync before they acknowledge, and run nothing as root.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::skip::skip;

fn text(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn compose() -> Value {
    serde_saphyr::from_str(&text("docker-compose.yml")).unwrap()
}

#[test]
fn every_port_is_for_this_machine_only() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        for port in service["ports"].as_array().unwrap() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
    skip("docker compose up", "no container engine is asked; the file is parsed and checked");
}

#[test]
fn nats_syncs_and_is_waited_for() {
    let compose = compose();
    let config = compose["configs"]["nats"]["content"].as_str().unwrap();
    for line in ["sync_interval: always", "store_dir: /data", "http: 0.0.0.0:8222"] {
        assert!(config.lines().any(|found| found.trim() == line), "`{line}` is not in\n{config}");
    }
    assert_eq!(compose["services"]["nats"]["configs"][0]["source"], "nats");
    assert_eq!(compose["services"]["nats"]["configs"][0]["target"], compose["services"]["nats"]["command"][1]);
    assert_eq!(compose["services"]["backstitch"]["depends_on"]["nats"]["condition"], "service_healthy");
    assert!(compose["services"]["nats"]["healthcheck"]["test"].is_array());
    // The limit of the server leaves room for what dead letters add (64 KiB).
    let event_bytes_max = backstitch::config::Config::default().nats.event_bytes_max;
    assert!(config.contains("max_payload: 1MB") && event_bytes_max + 64 * 1024 <= 1024 * 1024);
}

#[test]
fn images_are_pinned_and_nobody_is_root() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        let image = service["image"].as_str().unwrap();
        assert!(image.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest"), "{name}: {image}");
    }
    let backstitch = &compose["services"]["backstitch"];
    assert_eq!(backstitch["healthcheck"]["test"][2], "healthcheck");
    let dockerfile = text("Dockerfile");
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).expect("the image has a user");
    assert!(user != "root" && !user.starts_with('0'));
    assert_eq!(backstitch["user"], user);
    let version = dockerfile.lines().find_map(|line| line.strip_prefix("FROM rust:")).unwrap();
    let wanted =
        text("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned)).unwrap();
    assert!(version.starts_with(wanted.trim_matches('"')), "Dockerfile has Rust {version}, Cargo.toml wants {wanted}");
}

/// Every variable that the compose file sets is read by the configuration or the program.
#[test]
fn variables_are_read_by_somebody() {
    let compose = compose();
    let reference = text("backstitch.yaml");
    for (name, value) in compose["services"]["backstitch"]["environment"].as_object().unwrap() {
        assert!(reference.contains(&format!("${{env:{name}:-")), "nobody reads {name} ({value})");
    }
}
