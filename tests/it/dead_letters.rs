//! Dead letters through the real program: what is put aside is listed, shown, given again and dropped, each
//! noted; where the consumer says so, later events of the key wait.

use std::time::{Duration, Instant};

use backstitch::cli::client::{ByBody, RedriveBody, SomeLettersBody};
use backstitch::events::filter::LetterFilter;
use backstitch::events::view::LetterView;
use backstitch::payload::Payload;
use bytes::Bytes;

use crate::api_process::{Dev, WAIT, Workspace};

/// A publisher without us: nothing is checked.
pub struct Foreign(async_nats::Client);

impl Foreign {
    pub async fn of(dev: &Dev) -> Self {
        Self(async_nats::connect(dev.announcement["nats_url"].as_str().unwrap()).await.unwrap())
    }

    /// Publishes an event of type `thing.happened.v1`, whatever the data is.
    pub async fn thing(&self, id: &str, key: Option<&str>, data: &str) {
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in [("specversion", "1.0"), ("id", id), ("source", "/foreign"), ("type", "thing.happened.v1")]
        {
            headers.insert(format!("ce-{name}"), value);
        }
        if let Some(key) = key {
            headers.insert("ce-partitionkey", key);
        }
        self.raw("events.thing.happened.v1", headers, data.as_bytes()).await;
    }

    pub async fn raw(&self, subject: &str, headers: async_nats::HeaderMap, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        self.0.publish_with_headers(subject.to_owned(), headers, data).await.unwrap();
        self.0.flush().await.unwrap();
    }
}

/// Waits until as many letters lie there.
pub async fn letters(dev: &Dev, count: usize) -> Vec<LetterView> {
    let deadline = Instant::now() + WAIT;
    loop {
        let page = dev.client.dead_letters(&LetterFilter::default(), None, 1_000).await.unwrap();
        if page.letters.len() == count {
            return page.letters;
        }
        let found: Vec<_> = page.letters.iter().map(|letter| (&letter.reason, &letter.detail)).collect();
        assert!(Instant::now() < deadline, "{count} letters were expected: {found:?}\n{}", dev.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the ids of finished runs of `quick`, as soon as there are so many, oldest first.
async fn outputs(dev: &Dev, count: usize) -> Vec<String> {
    let deadline = Instant::now() + WAIT;
    loop {
        let (_, page) = dev.json("GET", "/api/v1/runs?saga=quick&state=completed&limit=1000", None).await;
        let runs = page["runs"].as_array().unwrap();
        if runs.len() == count {
            return runs.iter().rev().map(|run| run["key"].as_str().unwrap().to_owned()).collect();
        }
        assert!(Instant::now() < deadline, "{count} runs were expected: {page}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_aside_is_listed_corrected_given_again_and_dropped() {
    let (workspace, started) = (Workspace::new(), Instant::now());
    let dev = Dev::start(&workspace, &[]);
    let foreign = Foreign::of(&dev).await;
    foreign.thing("1", Some("K"), r#"{"id": 7, "lines": []}"#).await;
    foreign.thing("2", None, "no JSON").await;
    foreign.raw("events.thing.happened.v1", async_nats::HeaderMap::new(), b"\xff\x00").await;
    foreign.thing("4", Some("K"), r#"{"id": "later", "size": 1}"#).await;
    let found = letters(&dev, 3).await;
    assert_eq!(outputs(&dev, 1).await, ["later"], "poison blocks nobody, and later events of its key pass");

    let invalid = found.iter().find(|letter| letter.reason == "invalid_data").unwrap();
    assert_eq!(invalid.pointers, ["/id", "/size"], "every place: {}", invalid.detail);
    assert_eq!((invalid.key.as_deref(), invalid.id.as_deref()), (Some("K"), Some("1")));
    assert_eq!((invalid.consumer.as_str(), invalid.subject.as_str()), ("backstitch", "events.thing.happened.v1"));
    assert_eq!((invalid.stream_sequence, invalid.attempts), (1, 1));
    assert!(invalid.first_at <= invalid.last_at, "{invalid:?}");
    let filter = LetterFilter { reason: Some("invalid_data".into()), key: Some("K".into()), ..LetterFilter::default() };
    assert_eq!(dev.client.dead_letters(&filter, None, 10).await.unwrap().letters.len(), 1);
    let page = dev.client.dead_letters(&LetterFilter::default(), None, 2).await.unwrap();
    let rest = dev.client.dead_letters(&LetterFilter::default(), page.cursor.as_deref(), 2).await.unwrap();
    assert_eq!((page.letters.len(), rest.letters.len(), rest.cursor), (2, 1, None));
    let bytes = found.iter().find(|letter| letter.id.is_none()).unwrap();
    let shown = dev.client.dead_letter(bytes.sequence).await.unwrap().original.unwrap();
    assert_eq!(shown.base64.as_deref(), Some("/wA="), "byte for byte");

    // Given again as it is, it fails again, with its past.
    let number = invalid.sequence.to_string();
    let (code, out, err) = workspace.told(&["dead-letters", "redrive", &number, "--by", "ada", "--url", &dev.url()]);
    assert_eq!((code, out.trim()), (0, "redriven 1, left 0"), "{err}");
    let again = letters(&dev, 3).await.into_iter().find(|letter| letter.reason == "invalid_data").unwrap();
    assert!(again.sequence > invalid.sequence && again.attempts == 2, "{again:?}");
    assert_eq!(again.first_at, invalid.first_at);
    // With data that breaks the schema it is refused, with data that fits it goes through.
    let redrive = async |sequence: u64, data: &str| {
        let data = Some(Payload::parse(data).unwrap());
        dev.client.redrive(sequence, &RedriveBody { data, by: Some("ada".into()) }).await
    };
    let refused = redrive(again.sequence, "{}").await.unwrap_err();
    assert_eq!(refused.problem().unwrap().status, 422);
    redrive(again.sequence, r#"{"id": "corrected", "size": 1}"#).await.unwrap();
    let no_json = found.iter().find(|letter| letter.id.as_deref() == Some("2")).unwrap();
    redrive(no_json.sequence, r#"{"id": "read", "size": 2}"#).await.unwrap();
    assert_eq!(outputs(&dev, 3).await, ["later", "corrected", "read"]);
    let no_event = redrive(bytes.sequence, "{}").await.unwrap_err();
    assert_eq!(no_event.problem().unwrap().status, 409, "{no_event}");
    dev.client.drop_letter(bytes.sequence, &ByBody { by: Some("ada".into()) }).await.unwrap();
    letters(&dev, 0).await;
    assert_eq!(dev.client.dead_letter(bytes.sequence).await.unwrap_err().problem().unwrap().status, 404);
    let everything = dev.client.drop_all(&SomeLettersBody::default()).await.unwrap_err();
    assert_eq!(everything.problem().unwrap().status, 400, "dropping everything is not said by saying nothing");

    let audit = dev.client.audit(1).await.unwrap();
    let told: Vec<_> = audit.entries.iter().map(|entry| (entry.action.as_str(), entry.letter.unwrap())).collect();
    let expected = [
        ("redrive", invalid.sequence),
        ("redrive", again.sequence),
        ("redrive", no_json.sequence),
        ("drop", bytes.sequence),
    ];
    assert_eq!(told, expected);
    assert!(audit.entries.iter().all(|entry| entry.by.as_deref() == Some("ada")));
    println!("dead letters: listed, corrected, given again, dropped, 4 entries in the audit, {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn later_events_of_a_key_wait_where_the_consumer_says_so() {
    let workspace = Workspace::new();
    workspace.write("backstitch.yaml", "telemetry: { otlp: off }\nnats: { later_events: wait }\n");
    let dev = Dev::start(&workspace, &[]);
    let foreign = Foreign::of(&dev).await;
    foreign.thing("1", Some("K"), r#"{"id": "first"}"#).await;
    for id in ["second", "third"] {
        foreign.thing(id, Some("K"), &format!(r#"{{"id": "{id}", "size": 1}}"#)).await;
    }
    foreign.thing("other", Some("L"), r#"{"id": "other", "size": 1}"#).await;
    let found = letters(&dev, 3).await;
    let head = found.iter().find(|letter| letter.reason == "invalid_data").unwrap();
    let waiting: Vec<_> = found.iter().filter(|letter| letter.reason == "waits_for_key").collect();
    assert_eq!(waiting.len(), 2, "{found:?}");
    assert_eq!(outputs(&dev, 1).await, ["other"], "other keys do not wait");
    let refused = dev.client.redrive(waiting[0].sequence, &RedriveBody::default()).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().status, 409, "it is not its turn");

    // Over a restart they wait all the same.
    assert!(dev.stop().success());
    let dev = Dev::start(&workspace, &[]);
    let foreign = Foreign::of(&dev).await;
    foreign.thing("fourth", Some("K"), r#"{"id": "fourth", "size": 1}"#).await;
    letters(&dev, 4).await;
    let data = Some(Payload::parse(r#"{"id": "first", "size": 1}"#).unwrap());
    dev.client.redrive(head.sequence, &RedriveBody { data, by: None }).await.unwrap();
    assert_eq!(outputs(&dev, 5).await, ["other", "first", "second", "third", "fourth"]);
    letters(&dev, 0).await;
    foreign.thing("fifth", Some("K"), r#"{"id": "fifth", "size": 1}"#).await;
    assert_eq!(outputs(&dev, 6).await.last().unwrap(), "fifth", "the key is free again");

    // A head that is dropped lets the next one come as well.
    foreign.thing("6", Some("K"), r#"{"id": "sixth"}"#).await;
    foreign.thing("7", Some("K"), r#"{"id": "seventh", "size": 1}"#).await;
    let found = letters(&dev, 2).await;
    let head = found.iter().find(|letter| letter.reason == "invalid_data").unwrap();
    dev.client.drop_letter(head.sequence, &ByBody::default()).await.unwrap();
    assert_eq!(outputs(&dev, 7).await.last().unwrap(), "seventh");
    letters(&dev, 0).await;
}
