//! An outbox table in a real PostgreSQL: rows of transactions that commit out of order are all published, in
//! order for each aggregate, once, over a SIGKILL; what is no event is put aside. Without PostgreSQL it is
//! skipped, and says so.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backstitch::cli::client::RedriveBody;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::api_process::{Dev, WAIT, Workspace};
use crate::dead_letters::letters;
use crate::skip::skip;

/// A server of its own, on a free port; stopped by its pid.
struct Postgres {
    child: Child,
    port: u16,
    _folder: TempDir,
}

/// Where the programs are, newest version first.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

/// PostgreSQL does not run as root: user and group that it runs as then.
fn user() -> Option<(u32, u32)> {
    let line = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = line.lines().find(|line| line.starts_with("postgres:"))?;
    let mut parts = line.split(':').skip(2).map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??))
}

impl Postgres {
    /// Starts one, or says why not.
    fn start() -> Result<Self, String> {
        let bin = programs().ok_or("PostgreSQL is not installed (/usr/lib/postgresql)")?;
        let root = rustix::process::getuid().is_root();
        let user =
            if root { Some(user().ok_or("there is no user `postgres`, and root may not run it")?) } else { None };
        let folder = tempfile::Builder::new().prefix("backstitch-pg").tempdir().unwrap();
        let command = |program: &str| {
            let mut command = Command::new(bin.join(program));
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder.path());
            command
        };
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = folder.path().join("data");
        let data = data.to_str().unwrap();
        let made = command("initdb").args(["-D", data, "-U", "shop", "-A", "trust", "-N"]).status().unwrap();
        assert!(made.success(), "initdb");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let socket = folder.path().to_str().unwrap();
        // It takes a key from nobody but its own user.
        let kept = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = user {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
            }
            path.display().to_string()
        };
        let certificate = kept("server.pem", include_str!("tls/server.pem"));
        let key = kept("server.key", include_str!("tls/server.key"));
        let child = command("postgres")
            .args(["-D", data, "-p", &port.to_string(), "-h", "127.0.0.1", "-k", socket, "-F"])
            .args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={certificate}"), "-c", &format!("ssl_key_file={key}")])
            .spawn()
            .unwrap();
        Ok(Self { child, port, _folder: folder })
    }

    fn url(&self) -> String {
        format!("postgres://shop@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    async fn client(&self) -> Client {
        let deadline = Instant::now() + WAIT;
        loop {
            match tokio_postgres::connect(&self.url(), NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT); // fast shutdown
        let _ = self.child.wait();
    }
}

const TABLE: &str = "
CREATE TABLE outbox (
    position bigint GENERATED ALWAYS AS IDENTITY,
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    aggregatetype varchar(255) NOT NULL,
    aggregateid varchar(255) NOT NULL,
    type varchar(255) NOT NULL,
    payload jsonb,
    traceparent text,
    correlationid text
)";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn insert(aggregate: &str, name: &str, size: usize) -> String {
    format!(
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload, traceparent, correlationid) VALUES \
         ('thing', '{aggregate}', 'thing.happened.v1', '{{\"id\": \"{name}\", \"size\": {size}}}', '{PARENT}', 'c-{aggregate}')"
    )
}

/// Every event in the stream, in order.
fn events(workspace: &Workspace, url: &str) -> Vec<Value> {
    let (code, out, err) = workspace.told(&["events", "tail", "--from", "start", "--no-follow", "--url", url]);
    assert_eq!(code, 0, "{err}");
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn until(workspace: &Workspace, url: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + WAIT;
    loop {
        let found = events(workspace, url);
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "{} of {count}", found.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn configured(path: &Path, url: &str) {
    let text =
        format!("telemetry: {{ otlp: off }}\noutboxes:\n  shop:\n    url: {url}\n    source: /shop\n    poll: 20ms\n");
    std::fs::write(path.join("backstitch.yaml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_published_whatever_the_order_of_their_commits() {
    const WRITERS: usize = 6;
    const EACH: usize = 40;
    let postgres = match Postgres::start() {
        Ok(postgres) => postgres,
        Err(why) => return skip("rows_are_published_whatever_the_order_of_their_commits", &why),
    };
    let (first, second) = (postgres.client().await, postgres.client().await);
    first.batch_execute(TABLE).await.unwrap();
    let workspace = Workspace::new();
    configured(workspace.path(), &postgres.url());
    let mut dev = Dev::start(&workspace, &[]);

    // Position 1 is written first and committed last: `WHERE position > last` would never see it.
    first.batch_execute(&format!("BEGIN; {}", insert("A", "early", 1))).await.unwrap();
    second.batch_execute(&insert("B", "late", 2)).await.unwrap();
    let found = until(&workspace, &dev.url(), 1).await;
    assert_eq!(found[0]["data"]["id"], "late");
    first.batch_execute("COMMIT").await.unwrap();
    let found = until(&workspace, &dev.url(), 2).await;
    let event = &found[1];
    assert_eq!(
        (&event["data"]["id"], &event["partitionkey"], &event["source"]),
        (&json!("early"), &json!("A"), &json!("/shop"))
    );
    assert_eq!((&event["traceparent"], &event["correlationid"]), (&json!(PARENT), &json!("c-A")));
    assert_eq!(event["aggregatetype"], "thing");

    // Many writers whose transactions overlap; a SIGKILL in the middle.
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = postgres.client().await;
        writers.spawn(async move {
            for n in 0..EACH {
                client
                    .batch_execute(&format!("BEGIN; {}", insert(&format!("W{writer}"), &format!("w{writer}-{n}"), n)))
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_millis((writer as u64 * 7 + n as u64 * 3) % 11)).await;
                client.batch_execute("COMMIT").await.unwrap();
            }
        });
    }
    until(&workspace, &dev.url(), 60).await;
    dev.signal(Signal::KILL);
    dev.ended();
    let dev = Dev::start(&workspace, &[]);
    writers.join_all().await;
    let deadline = Instant::now() + WAIT;
    while first.query_one("SELECT count(*) FROM outbox", &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < deadline, "rows are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = events(&workspace, &dev.url());
    let mut by_aggregate: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in &found {
        let aggregate = event["partitionkey"].as_str().unwrap().to_owned();
        by_aggregate.entry(aggregate).or_default().push(event["data"]["size"].as_u64().unwrap());
    }
    assert_eq!(found.len(), WRITERS * EACH + 2, "each once: the ids are the rows'");
    for writer in 0..WRITERS {
        assert_eq!(by_aggregate[&format!("W{writer}")], (0..EACH as u64).collect::<Vec<_>>(), "in order");
    }

    // What is no event, and what breaks its schema, is put aside and blocks nothing.
    let wrong = [
        insert("C", "x", 1).replace("thing.happened.v1", "OrderCreated"),
        insert("C", "x", 1).replace("\"size\"", "\"length\""),
    ];
    for statement in &wrong {
        second.batch_execute(statement).await.unwrap();
    }
    second.batch_execute(&insert("C", "good", 1)).await.unwrap();
    until(&workspace, &dev.url(), WRITERS * EACH + 3).await;
    let put_aside = letters(&dev, 2).await;
    let reasons: Vec<&str> = put_aside.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["invalid_event", "invalid_data"]);
    assert!(put_aside.iter().all(|letter| letter.consumer == "outbox-shop"), "{put_aside:?}");
    let data = Some(serde_json::from_str(r#"{"id": "corrected", "size": 1}"#).unwrap());
    dev.client.redrive(put_aside[1].sequence, &RedriveBody { data, by: None }).await.unwrap();
    let found = until(&workspace, &dev.url(), WRITERS * EACH + 4).await;
    assert_eq!(found.last().unwrap()["data"]["id"], "corrected", "for everybody");
    dev.until_figures(&[
        r#"backstitch_outbox_rows_total{outbox="shop",outcome="put_aside"} 2"#,
        r#"backstitch_outbox_ready{outbox="shop"} 1"#,
    ])
    .await;
    println!(
        "outbox table: {} rows by overlapping transactions over a SIGKILL, none lost, none twice",
        WRITERS * EACH + 2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_over_tls_and_the_certificate_is_checked() {
    let postgres = match Postgres::start() {
        Ok(postgres) => postgres,
        Err(why) => return skip("a_table_is_read_over_tls_and_the_certificate_is_checked", &why),
    };
    let client = postgres.client().await;
    client.batch_execute(TABLE).await.unwrap();
    client.batch_execute(&insert("A", "over TLS", 1)).await.unwrap();
    let workspace = Workspace::new();
    let url = postgres.url().replace("disable", "require");
    // Nobody vouches for the certificate: the row stays, and the reason is told.
    configured(workspace.path(), &url);
    let dev = Dev::start(&workspace, &[]);
    dev.until_figures(&[r#"backstitch_outbox_ready{outbox="shop"} 0"#]).await;
    crate::rig::until("the reason", async || dev.log().contains("UnknownIssuer").then_some(())).await;
    assert!(dev.stop().success());
    let left = client.query_one("SELECT count(*) FROM outbox", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(left, 1);
    // Its own authority does.
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/ca.pem");
    configured(workspace.path(), &format!("{url}\n    ca_file: {ca}"));
    let dev = Dev::start(&workspace, &[]);
    assert_eq!(until(&workspace, &dev.url(), 1).await[0]["data"]["id"], "over TLS");
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'backstitch'";
    assert_eq!(client.query_one(encrypted, &[]).await.unwrap().get::<_, Option<bool>>(0), Some(true));
    assert!(dev.stop().success());
}
